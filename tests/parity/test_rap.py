"""RAP against recorded vectors of the published system."""

import importlib.util
import json
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapperDict, build_optim_wrapper

from mmcity.datasets.transforms.posed_images import target_size
from mmcity.engine.optim import ExponentialDecayLR
from mmcity.evaluation.functional.localization import localization_errors, summarize_localization
from mmcity.models.rap import (
    BRISQUE,
    AppearanceModel,
    FeatureDiscriminator,
    FeatureMSELoss,
    GeometricPoseLoss,
    HardTripletLoss,
    JointObjective,
    NTXentLoss,
    PosePerturber,
    RAPNet,
    RAPTrainer,
    VICRegLoss,
)
from mmcity.models.rap.checkpoint_keys import to_published
from mmcity.models.rap.deblurring import bezier_motion, linear_motion, spline_motion
from mmcity.models.rap.discriminator import lsgan_discriminator_loss, lsgan_generator_loss
from mmcity.models.rap.feature_losses import hardest_case
from mmcity.models.rap.perturbation import far_from_validation
from mmcity.models.rap.quality import brisque_features, mscn_map
from mmcity.models.rap.trainer import poses_to_viewmats
from mmcity.structures import Cameras, LocalizationDataSample
from mmcity.structures.geometry import (
    rotation_6d_to_rotmat,
    rotmat_to_quat,
    se3_exp,
)
from tests.conftest import REPO
from tests.parity._golden import decay_of, find_cases, like_recorded, vectors
from tests.parity.rap_weights import (
    base_seed,
    companion,
    generated_input,
    generated_weights,
    input_tag,
    load,
    load_generated,
    load_published,
    network_options,
)


def samples(prefix):
    return vectors(prefix, "rap")


def tensor(value) -> torch.Tensor:
    return torch.from_numpy(np.array(value))


def close(actual, expected, rtol=1e-4, atol=1e-4):
    expected = tensor(expected) if not isinstance(expected, torch.Tensor) else expected
    torch.testing.assert_close(
        torch.as_tensor(actual).detach().to(expected.dtype), expected, rtol=rtol, atol=atol
    )


def stats(x: torch.Tensor) -> torch.Tensor:
    x = x.detach().double()
    return torch.stack([x.mean(), x.std(), x.abs().sum()])


# ---------------------------------------------------------------- pose network


FORWARD = find_cases("rapnet", "rap", "_forward.npz")
#: Of large networks the names of weights are kept, of narrow ones the weights.
FULL_SIZE = [path for path in FORWARD if companion(path, "_state_dict_keys.json").is_file()]
NARROW = [path for path in FORWARD if path not in FULL_SIZE]


@pytest.fixture(scope="module", params=FULL_SIZE, ids=lambda path: path.stem)
def full_size(request):
    keys = json.loads(companion(request.param, "_state_dict_keys.json").read_text())
    network = RAPNet().eval()
    unused = load_published(network, generated_weights(keys, base_seed(request.param.parent)))
    return network, keys, unused, request.param


def test_full_size_names_and_shapes(full_size):
    network, keys, unused, _ = full_size
    published = to_published(network.state_dict())
    own = {published[k]: list(v.shape) for k, v in network.state_dict().items()}
    assert own | {k: keys[k][0] for k in unused} == {k: v[0] for k, v in keys.items()}
    assert all(k.startswith("backbone.0.body.") for k in unused)


def test_full_size_forward(full_size):
    network, _, _, path = full_size
    want, name = load(path), path.stem.removesuffix("_forward")
    meta = json.loads((path.parent / "meta.json").read_text())
    tag, shape = meta[f"{name}_input_tag"], meta[f"{name}_input_shape"]
    images = generated_input(tag, shape, base_seed(path.parent))
    with torch.no_grad():
        levels = network.backbone(images)
        poses, features = network.poses(levels), network.adapt(levels)
    close(poses, want["pose"], atol=1e-3)
    close(network(images[:1]), want["pose"][:1], atol=1e-3)
    for row, name in enumerate(("target", "rendered")):
        half = features[:, row : row + 1]
        assert list(half.shape) == want["feat_target_shape"].tolist()
        recorded = want[f"feat_{name}_sub"]
        close(like_recorded(half, recorded), recorded, atol=1e-3)
        close(stats(half), want[f"feat_{name}_stats"], rtol=1e-3)
    assert list(features.shape) == want["single_stream_shape"].tolist()
    names = [key.removesuffix("_shape") for key in want if re.fullmatch(r"red\d_shape", key)]
    assert names
    for name in names:
        level = levels[2 ** int(name.removeprefix("red"))]
        assert list(level.shape) == want[f"{name}_shape"].tolist()
        close(like_recorded(level, want[f"{name}_sub"]), want[f"{name}_sub"], atol=1e-3)
        close(stats(level), want[f"{name}_stats"], rtol=1e-3)
    token, positions = network.positions(*levels[16].shape[-2:])
    close(token[0], want["pos_token"])
    maps = positions.T.unflatten(1, levels[16].shape[-2:])
    close(like_recorded(maps, want["pos_t_sub"]), want["pos_t_sub"])


@pytest.mark.parametrize("path", NARROW, ids=lambda path: path.stem)
def test_narrow_network_and_its_gradients(path):
    spec = json.loads(companion(path, ".json").read_text())
    want = load(path)
    weights = torch.load(companion(path, "_state_dict_fp16.pt"), weights_only=True)
    weights = {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}
    options = network_options(spec["config"], spec["width_coefficient"])
    network = RAPNet(**options, freeze_batch_norm=False).eval()
    load_published(network, weights)
    strides = {f"reduction_{k}": 2**k for k in range(1, 5)}
    assert {n: network.backbone.channels[s] for n, s in strides.items()} == {
        n: spec["channels"][n] for n in strides
    }

    poses, features = network.forward_with_features(tensor(want["x"]))
    real, rendered = features.chunk(2, dim=1)
    close(poses, want["pose"])
    for half, key in ((real, "feat_target"), (rendered, "feat_rendered")):
        recorded = tensor(want[key]).float()
        close(like_recorded(half, recorded), recorded, atol=2e-3, rtol=2e-3)
    close(stats(real)[:2], want["feat_target_stats"])

    config = spec["config"]
    loss = GeometricPoseLoss(config["loss_learnable"], False, config["loss_norm"], config["s_x"],
                             config["s_q"])  # fmt: skip
    pose_loss = loss(poses, tensor(want["gt"]))
    feature_loss = VICRegLoss()(real, rendered)
    close(pose_loss, want["pose_loss"])
    close(feature_loss, want["vicreg"])
    (pose_loss + feature_loss).backward()
    names = to_published(dict(network.named_parameters()))
    gradients = {names[k]: p.grad for k, p in network.named_parameters() if p.grad is not None}
    norms = {k: v for k, v in spec["grad_l2_norm"].items() if v is not None}
    assert set(gradients) == set(norms)
    worst = max(norms.values())
    for key, norm in norms.items():
        # Biases before a normalisation have no gradient but rounding.
        assert float(gradients[key].norm()) == pytest.approx(norm, rel=1e-3, abs=1e-7 * worst), key
    for key in (k for k in want if k.startswith("grad__")):
        name = key.removeprefix("grad__").replace("___", "\0_").replace("__", ".")
        got = gradients[name.replace("\0", ".")]
        error = (got - tensor(want[key])).norm() / tensor(want[key]).norm()
        assert error < 1e-3, key


# ---------------------------------------------------------------- losses


@samples("losses")
def test_rotation_of_six_numbers(path):
    want = load(path)
    got = rotation_6d_to_rotmat(tensor(want["ortho6d"]))
    assert got.isfinite().all()
    first, second = tensor(want["ortho6d"]).double().unflatten(1, (2, 3)).unbind(1)
    lengths = first.norm(dim=1) * second.norm(dim=1)
    # Of parallel vectors only finiteness is meaningful.
    keep = (first.cross(second, dim=1).norm(dim=1) > 1e-6 * lengths) | (lengths == 0)
    assert keep.sum() > len(keep) / 2
    close(got[keep], tensor(want["matrix"])[keep], atol=1e-5)


@pytest.mark.parametrize("form", ["learn", "fixed"])
@pytest.mark.parametrize("norm", [1, 2])
@samples("losses")
def test_pose_loss(path, form, norm):
    want = load(path)
    poses, truth = tensor(want["est"]).requires_grad_(), tensor(want["gt"])
    # The weights are not recorded: they are how much longer the gradients are than those of 1.
    (unit,) = torch.autograd.grad(GeometricPoseLoss(False, False, norm, 1, 1)(poses, truth), poses)
    lengths = tensor(want[f"{form}_l{norm}_gest"]).unflatten(1, (3, 4)), unit.unflatten(1, (3, 4))
    s_x, s_q = (
        float(given.double().norm() / one.double().norm())
        for given, one in (
            [rows[..., 3] for rows in lengths],
            [rows[..., :3] for rows in lengths],
        )
    )
    if form == "learn":
        s_x, s_q = -np.log(s_x), -np.log(s_q)
    loss = GeometricPoseLoss(form == "learn", form == "learn", norm, s_x, s_q)
    value = loss(poses, truth)
    value.backward()
    close(value, want[f"{form}_l{norm}_loss"], rtol=1e-5)
    close(poses.grad, want[f"{form}_l{norm}_gest"], rtol=1e-4)
    if form == "learn":
        close(loss.s_x.grad, want[f"learn_l{norm}_gsx"], rtol=1e-5)
        close(loss.s_q.grad, want[f"learn_l{norm}_gsq"], rtol=1e-5)


FEATURE_LOSSES = {
    "vicreg": VICRegLoss(),
    "ntxent": NTXentLoss(),
    "triplet1": HardTripletLoss(1.0),  # the names tell the margins
    "triplet_half": HardTripletLoss(0.5),
    "mse": FeatureMSELoss(),
}


@pytest.mark.parametrize("name", FEATURE_LOSSES)
@samples("losses")
def test_feature_loss(path, name):
    want = load(path)
    # The recorded pair is (rendered, real).
    first, second = (tensor(want[k]).double().requires_grad_() for k in ("f1", "f2"))
    value = FEATURE_LOSSES[name](second, first)
    value.backward()
    close(value, want[name], rtol=1e-5, atol=1e-5)
    for grad, key in ((first.grad, "g1"), (second.grad, "g2")):
        assert float(grad.norm()) == pytest.approx(float(want[f"{name}_{key}_norm"]), rel=1e-4)


@samples("losses")
def test_hardest_negative(path):
    want = load(path)
    cases = [key.removesuffix("_case") for key in want if key.endswith("_case")]
    assert cases
    for case in cases:
        first, second = tensor(want[f"{case}_f1"]), tensor(want[f"{case}_f2"])
        assert hardest_case(first, second) == int(want[f"{case}_case"]), case
        close(HardTripletLoss()(second, first), want[f"{case}_loss"], rtol=1e-5)


@samples("discriminator")
def test_discriminator(path):
    want = load(path)
    keys = json.loads(companion(path, "_state_dict_keys.json").read_text())
    channels = next(iter(keys.values()))[0][1]
    shape = (len(want["out_eval"]), channels, *want["hw"].tolist())
    features = generated_input(input_tag(path), shape, base_seed(path.parent)).requires_grad_()
    net = FeatureDiscriminator(channels, dropout=0.0).eval()
    load_generated(path, net, keys, lambda: net(features), want["out_eval"])
    assert {k: list(v.shape) for k, v in net.state_dict().items()} == {
        k: v[0] for k, v in keys.items()
    }
    with torch.no_grad():
        close(net.eval()(features), want["out_eval"])
        assert list(net.model(features).shape) == want["conv_shape"].tolist()
        large = FeatureDiscriminator(channels, large=True).eval()
        assert list(large.model(features).shape) == want["conv_shape_large"].tolist()
    scores = net.train()(features)
    loss = lsgan_generator_loss(scores)
    loss.backward()
    close(scores, want["out_train_nodrop"])
    close(loss, want["loss_gen_train"])
    assert float(features.grad.norm()) == pytest.approx(float(want["grad_x_norm"]), rel=1e-4)
    close(like_recorded(features.grad, want["grad_x_sub"]), want["grad_x_sub"], atol=1e-6)
    for key in (k for k in want if k.startswith("model__")):
        close(net.state_dict()[key.replace("__", ".", 2)], want[key], atol=1e-5)


@samples("joint_objective")
def test_joint_objective(path):
    want = {k: tensor(v) for k, v in load(path).items()}
    objective = JointObjective()
    terms = objective(
        want["est"],
        want["gt"],
        real=want["feat_t"],
        rendered=want["feat_r"],
        scores=want["d_gen"],
        perturbed=(want["est_pert"], want["gt_pert"]),
    )
    close(terms["loss_pose"], want["loss_pose"], rtol=1e-5)
    close(terms["loss_feature"], want["loss_feature"], rtol=1e-5)
    close(terms["loss_pose_perturbed"], want["loss_pose_pert"], rtol=1e-5)
    close(
        terms["loss_generator"], objective.weights["loss_generator"] * want["loss_gen"], rtol=1e-5
    )
    close(sum(terms.values()), want["total"], rtol=1e-5)
    close(lsgan_discriminator_loss(want["d_real"], want["d_fake"]), want["loss_disc"], rtol=1e-5)


# ---------------------------------------------------------------- view synthesis


@pytest.mark.parametrize("sampler", ["euler", "xz", "uniform", "uniform_sphere"])
@samples("perturb")
def test_pose_sampler(path, sampler):
    want = load(path)
    translation, degrees = want[f"{sampler}_range"]
    perturber = PosePerturber(translation, degrees, sampler, frame="world_origin")
    for row, pose in enumerate(want["poses"]):
        draws = perturber.draw(np.random.RandomState(int(want["draw_seed"]) + row))
        np.testing.assert_allclose(draws, want[f"{sampler}_draws"][row], atol=1e-12)
        got = perturber.apply(pose, draws)
        np.testing.assert_allclose(got, want[f"{sampler}_out"][row], atol=1e-6)


@samples("perturb")
def test_clamping_and_filter(path):
    want = load(path)
    limits = dict(frame="world_origin", d_max=float(want["bbox_dmax"]))
    perturber = PosePerturber(*want["euler_range"], **limits)
    perturber.fit_bounds(want["poses"][:, :, 3])
    low, high = perturber.bounds + np.array([[-1.0], [1.0]]) * perturber.d_max
    np.testing.assert_allclose(low, want["bbox_min"], atol=1e-6)
    np.testing.assert_allclose(high, want["bbox_max"], atol=1e-6)
    rng = np.random.RandomState(int(want["clamped_seed"]))
    got = np.stack([perturber(pose, rng) for pose in want["poses"]])
    np.testing.assert_allclose(got, want["clamped_out"], atol=1e-6)
    rows = far_from_validation(want["filter_train"], want["filter_val"], *want["filter_args"])
    assert rows.tolist() == want["filter_idx"].tolist()


@samples("brisque")
def test_brisque_features(path):
    want = load(path)
    images = tensor(want["images_float"]).float().permute(0, 3, 1, 2)
    np.testing.assert_allclose(brisque_features(images), want["features36"], atol=2e-3, rtol=2e-3)
    gray = torch.einsum("bchw,c->bhw", images, torch.tensor([0.2125, 0.7154, 0.0721]))
    close(like_recorded(mscn_map(gray), want["mscn_sub"]), want["mscn_sub"], atol=4e-3)


@samples("brisque")
def test_brisque_scores(path):
    if importlib.util.find_spec("brisque") is None:
        pytest.skip("the model file comes with the brisque package, which is not installed")
    want = load(path)
    scores = BRISQUE()(tensor(want["images_float"]).float().permute(0, 3, 1, 2))
    np.testing.assert_allclose(scores, want["scores"], atol=0.5)
    assert scores.argsort().tolist() == want["scores"].argsort().tolist()


# ---------------------------------------------------------------- evaluation


@samples("metrics")
def test_pose_errors(path):
    want = load(path)
    truth, poses = tensor(want["gt"]), tensor(want["est"])
    translation, rotation = localization_errors(poses, truth)
    close(translation, want["err_t"], atol=1e-6)
    # The recorded angles have a floor of 0.008 degrees.
    close(rotation, want["err_r_deg"], atol=0.02, rtol=1e-3)
    is_exact = (poses == truth).flatten(1).all(1)
    assert (rotation[is_exact] < 1e-6).all() and (translation[is_exact] == 0).all()
    is_flipped = tensor(want["err_r_deg"]) > 179.999
    assert (rotation[is_flipped] > 179.999).all()
    single = localization_errors(poses.float(), truth)
    close(single[0], want["err_t_f32est"], atol=1e-6)
    close(single[1], want["err_r_f32est"], atol=0.02, rtol=1e-3)
    summary = summarize_localization(translation, rotation)
    for name in ("median", "mean", "max", "min"):
        recorded = want["med" if name == "median" else name]
        assert summary[f"{name}_trans"] == pytest.approx(recorded[0], abs=1e-6)
        assert summary[f"{name}_rot"] == pytest.approx(recorded[1], abs=0.02)
    limits = [int(key[3]) for key in want if re.fullmatch(r"suc\d", key)]  # suc5: 5 cm, 5 degrees
    assert limits
    for limit in limits:
        recall = summary[f"recall_{limit / 100}m_{limit}deg"]
        assert recall == pytest.approx(float(want[f"suc{limit}_rate"]))
        assert round(recall * len(truth)) == int(want[f"suc{limit}"])
    mse = (poses.flatten(1) - truth.flatten(1)).square().mean()
    close(mse, want["val_mse12"], rtol=1e-5)
    quats, recorded = rotmat_to_quat(truth[:, :, :3]), tensor(want["quat_wxyz_gt"])
    close((quats * recorded).sum(-1).abs(), torch.ones(len(quats)).double(), atol=1e-6)


# ---------------------------------------------------------------- appearance and motion


@pytest.mark.parametrize("kind", ["eval", "single_image"])
@samples("appearance")
def test_appearance(path, kind):
    want = {k: tensor(v) for k, v in load(path).items()}
    keys = json.loads(companion(path, "_state_dict_keys.json").read_text())
    num_maps, channels = want["feature_maps_shape"].tolist()[:2]
    model = AppearanceModel(
        dict(
            type="AppearanceMapGenerator",
            num_maps=num_maps,
            channels=channels,
            batch_norm_eval=False,
        ),
        dict(type="AppearanceColorNet", appearance_dim=num_maps * channels),
    ).eval()
    scene = want["xyz"], want["box_coord"], want["K"], want["w2c"]

    def colors(blend):
        appearance, _ = model.appearance(want["image"], *scene)
        codes = model.color_net.encode(want["xyz"], appearance, want["f_intr"], blend)
        return model.color_net.decode(codes, want["view_dir"])

    generator = model.map_generator
    maps = want["feature_maps_sub"]
    load_generated(path, generator, keys["map_generator"], lambda: generator(want["image"]), maps)
    blend = next(key[8:] for key in want if re.fullmatch(r"colors_w[\d.]+", key))
    recorded = want[f"colors_w{blend}"]
    load_generated(path, model.color_net, keys["color_net"], lambda: colors(float(blend)), recorded)
    suffix = ""
    if kind == "single_image":
        model.map_generator.train()
        suffix = "_trainbn"
    with torch.no_grad():
        maps = model.map_generator(want["image"])
        assert list(maps.shape) == want["feature_maps_shape"].tolist()
        recorded = want[f"feature_maps_sub{suffix}"]
        close(like_recorded(maps, recorded), recorded)
        if suffix:  # running statistics moved, the output of train mode does not see them
            appearance, valid = model.appearance(want["image"], *scene)
        else:
            appearance, valid = model.appearance(want["image"], *scene)
            rows = torch.cat([want["sampled"], want["projected"]], 1)
            close(like_recorded(appearance, rows), rows)
            assert torch.equal(valid, want["proj_mask"])
        center = want["cam_center"]
        keys = [re.fullmatch(rf"colors_w([\d.]+){suffix}", key) for key in want]
        blends = [float(key[1]) for key in keys if key]
        assert blends
        for blend in blends:
            codes = model.color_net.encode(want["xyz"], appearance, want["f_intr"], blend)
            close(model.colors(codes, want["xyz"], center), want[f"colors_w{blend}{suffix}"])
            close(model.color_net.decode(codes, want["view_dir"]), want[f"colors_w{blend}{suffix}"])
        if not suffix:
            codes = model.color_net.encode(want["xyz"], appearance, want["f_intr"], 1.0)
            other = model.color_net.decode(codes, want["view_dir2"])
            close(other, want["colors_cached_dir2"])
            close(model.box_loss(want["box_coord"]), want["box_coord_loss"], atol=1e-7)


MOTIONS = {"linear": linear_motion, "spline": spline_motion, "bezier": bezier_motion}


@pytest.mark.parametrize("name", MOTIONS)
@samples("trajectory_camera")
def test_exposure_motion(path, name):
    want = load(path)
    control = tensor(want[f"{name}_ctrl"])
    control = control.double() if want[name].dtype == np.float64 else control
    got = torch.stack([MOTIONS[name](control, alpha) for alpha in want["alphas"]])
    close(got, want[name], atol=1e-5)


@samples("trajectory_camera")
def test_exposure_at_rest_and_rigid_motion(path):
    want = load(path)
    zero = torch.zeros(want["linear_ctrl"].shape)
    close(torch.stack([linear_motion(zero, a) for a in want["alphas"]]), want["linear_zero"],
          atol=1e-5)  # fmt: skip
    close(se3_exp(tensor(want["SE3_exp_in"])), want["SE3_exp_out"], atol=1e-6)


@samples("trajectory_camera")
def test_learning_rates(path):
    want = load(path)
    names = [key for key in want if key.startswith("lr_") and key != "lr_steps"]
    assert names
    for name in names:
        first, ratio, end = decay_of(want["lr_steps"], want[name])
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=first)
        schedule = ExponentialDecayLR(optimizer, final_ratio=ratio, end=round(end))
        got = [first * schedule.factor(int(step)) for step in want["lr_steps"]]
        np.testing.assert_allclose(got, want[name], rtol=1e-6, err_msg=name)


@samples("trajectory_camera")
def test_resized_intrinsics(path):
    for row in load(path)["cam_params"]:
        height, width, fx, fy, resolution, new_h, new_w, new_fx, new_fy, fov_x, fov_y = row
        K = np.array([[fx, 0, width / 2], [0, fy, height / 2], [0, 0, 1]])
        camera = Cameras(K, np.eye(4), int(width), int(height))
        camera = camera.resize(*target_size(int(width), int(height), resolution=resolution))
        assert camera.one_size() == (new_w, new_h)
        # Recorded focal lengths ignore that sizes are rounded to whole pixels.
        rounding = 0.5 / min(new_w, new_h)
        focals = np.array([camera.Ks[0, 0, 0], camera.Ks[0, 1, 1]])
        np.testing.assert_allclose(focals, [new_fx, new_fy], rtol=rounding)
        fov = 2 * np.arctan(np.array([new_w, new_h]) / 2 / focals)
        np.testing.assert_allclose(fov, [fov_x, fov_y], rtol=rounding)


@samples("trajectory_camera")
def test_projection_agrees_with_the_clip_matrix(path):
    want = load(path)
    near, far, fov_x, fov_y = want["proj_args"]
    height, width = want["cam_params"][0, :2]
    focals = width / 2 / np.tan(fov_x / 2), height / 2 / np.tan(fov_y / 2)
    K = np.array([[focals[0], 0, width / 2], [0, focals[1], height / 2], [0, 0, 1]])
    points = np.array([[0.3, -0.2, near], [0.3, -0.2, (near * far) ** 0.5], [-1.0, 0.5, far]])
    clip = np.c_[points, np.ones(3)] @ want["proj"].astype(np.float64).T
    ndc = clip[:, :3] / clip[:, 3:]
    pixels, _ = Cameras(K, np.eye(4), int(width), int(height)).project(torch.from_numpy(points))
    np.testing.assert_allclose(2 * pixels[0].numpy() / [width, height] - 1, ndc[:, :2], rtol=1e-5)
    np.testing.assert_allclose(ndc[[0, 2], 2], [0, 1], atol=1e-4)


# ---------------------------------------------------------------- optimisation


@samples("train_trace")
def test_adversarial_steps(path):
    spec = json.loads(path.with_suffix(".json").read_text())
    want = load(path)
    keys = json.loads(companion(path, "_state_dict_keys.json").read_text())
    config = spec["config"]
    weights = generated_weights(keys, spec["weight_seed_model"])
    trainer = RAPTrainer(
        network=dict(type="RAPNet", **network_options(config, spec["width_coefficient"])),
        discriminator=dict(type="FeatureDiscriminator", dropout=0.0),
        objective=dict(type="JointObjective", weights=config["loss_weights"]),
    ).train()
    unused = load_published(trainer.network, weights)
    disc_keys = {k: list(v.shape) for k, v in trainer.discriminator.model.state_dict().items()}
    disc_keys = {f"model.{key}": shape for key, shape in disc_keys.items()}
    for last in ("weight", "bias"):
        shape = want[f"disc_after__adv_layer__1__{last}"].shape
        disc_keys[f"adv_layer.1.{last}"] = list(shape)
    trainer.discriminator.load_state_dict(generated_weights(disc_keys, spec["weight_seed_disc"]))
    # The published trainer collects this gradient and never uses it.
    trainer.objective.pose.s_x.requires_grad_()

    def normalized_back(pixels):  # the recorded pictures are already normalised
        pre = trainer.data_preprocessor
        return tensor(pixels).double() * pre.std + pre.mean

    schedule = Config.fromfile(REPO / "configs/_base_/schedules/rap_2000e.py").optim_wrapper
    parts = dict(network=trainer.network, discriminator=trainer.discriminator)
    wrappers = OptimWrapperDict(
        **{name: build_optim_wrapper(part, schedule[name]) for name, part in parts.items()}
    )
    poses = tensor(want["poses"]).float()
    trainer.views.rendered = normalized_back(want["imgs_rendered"])
    trainer.views.perturbed = normalized_back(want["imgs_pert"])
    trainer.views.perturbed_poses = tensor(want["poses_pert"]).float().flatten(1)
    pictures = normalized_back(want["imgs_normed"]).float()
    height, width = spec["hw"]
    K = torch.tensor([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]])

    def sample(row):
        out = LocalizationDataSample(metainfo=dict(index=row))
        viewmat = poses_to_viewmats(poses[row].flatten().double())
        out.camera = Cameras(K.double(), viewmat, width, height, validate=False)
        return out

    batch, losses = config["batch_size"], []
    order = want["order"].tolist()
    for step in range(len(order) // batch):
        rows = order[step * batch : (step + 1) * batch]
        data = dict(inputs=[pictures[r] for r in rows], data_samples=[sample(r) for r in rows])
        log = trainer.train_step(data, wrappers)
        losses.append(float(log["loss"]))
    np.testing.assert_allclose(losses, want["losses"], rtol=1e-3)
    assert np.mean(losses) == pytest.approx(float(want["epoch_mean"]), rel=1e-3)

    names = to_published(trainer.network.state_dict())
    after = {names[k]: v for k, v in trainer.network.state_dict().items()}
    readable = {key.replace(".", "__"): value for key, value in after.items()}
    for key in (k for k in want if k.startswith("after__")):
        close(readable[key.removeprefix("after__")], want[key], atol=1e-4)
    total = sum(float(v.double().sum()) for v in after.values() if v.is_floating_point())
    total += sum(float(weights[k].double().sum()) for k in unused if weights[k].is_floating_point())
    assert total == pytest.approx(float(want["param_sum_after"]), abs=0.01)
    disc = {k.replace(".", "__"): v for k, v in trainer.discriminator.state_dict().items()}
    for key in (k for k in want if k.startswith("disc_after__")):
        close(disc[key.removeprefix("disc_after__")], want[key], atol=1e-4)
    pose_loss = trainer.objective.pose
    close(pose_loss.s_x, want["s_x_after"], atol=0)
    close(pose_loss.s_q, want["s_q_after"], atol=0)
    close(pose_loss.s_x.grad, want["grad_s_x_accum"], rtol=1e-3)
