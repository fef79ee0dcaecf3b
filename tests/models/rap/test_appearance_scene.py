"""Gaussians that follow a photograph, trained through the Runner."""

import copy

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmcity.apis.scenes import render_views
from mmcity.datasets.transforms.posed_images import read_image
from mmcity.engine.rap.view_synthesis import SynthesisSpec, build_synthesizer
from mmcity.engine.scene_loading import load_scene
from mmcity.registry import MODELS
from mmcity.structures import Cameras, SceneDataSample
from mmcity.utils.cli import UserError
from mmcity.utils.setup_env import register_all_modules
from tests.devices import DEVICE

SIZE = (96, 72)


def model_config(**changes) -> dict:
    return dict(type="AppearanceGaussians", **changes)


def config(scene, work_dir, model, max_iters=6) -> Config:
    register_all_modules()
    dataset = dict(type="ColmapDataset", data_root=str(scene), depth_dir=None)
    loader = dict(batch_size=1, num_workers=0, collate_fn=dict(type="pseudo_collate"))
    lr = dict(lr=1e-2)
    names = ("log_scales", "quats", "opacity_logits", "f_intr", "box_coords")
    return Config(
        dict(
            default_scope="mmcity",
            work_dir=str(work_dir),
            experiment_name=work_dir.name,
            model=model,
            train_dataloader=dict(
                dataset=dict(split="train", **dataset),
                sampler=dict(type="CameraSampler", batch_size=1),
                **loader,
            ),
            optim_wrapper=dict(
                constructor="GaussianOptimWrapperConstructor",
                optimizer=dict(type="Adam", lr=1e-3, eps=1e-15),
                paramwise_cfg=dict(
                    groups=[
                        dict(name="splats.means", lr=1.6e-4, times_extent=True),
                        *(dict(name=f"splats.{name}", **lr) for name in names),
                        dict(name="appearance.", lr=1e-3, optional=True),
                        dict(name="motion.", lr=1e-3, optional=True),
                        dict(name="mask_head.", lr=1e-3, optional=True),
                        dict(name="renderer.", lr=1e-3, optional=True),
                    ]
                ),
            ),
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=max_iters),
            default_hooks=dict(
                logger=dict(type="LoggerHook", interval=1),
                checkpoint=dict(type="CityCheckpointHook", interval=max_iters, by_epoch=False),
                scene_init=dict(type="SceneInitHook"),
                growth=dict(
                    type="DensificationHook",
                    strategy=dict(
                        type="DefaultStrategy",
                        refine_start=1,
                        refine_every=2,
                        grow_grad2d=1e-6,
                        reset_every=0,
                        extra_resets=(5,),
                        prune_radius2d=1e3,
                        exposure_max=True,
                        max_gaussians=1800,
                    ),
                ),
            ),
            randomness=dict(seed=0),
            log_level="WARNING",
        )
    )


@pytest.mark.parametrize(
    "changes",
    [
        dict(motion=dict(mode="linear"), random_background=True, feature_mask=True),
        dict(
            appearance=dict(
                use_projection=False,
                map_generator=dict(type="AppearanceMapGenerator", num_maps=2),
                color_net=dict(type="AppearanceColorNet", appearance_dim=32),
            ),
            motion=dict(mode="bezier", non_uniform=True),
            learn_sampled_coords=False,
            depth_weight=(1.0, 0.01),
        ),
        dict(use_color_net=False, sh_degree=1, motion=dict(mode="spline", num_samples=3)),
    ],
    ids=[
        "projected map, linear blur",
        "sampled maps, Bezier blur, depth",
        "harmonics, spline blur",
    ],
)
def test_trains_with_every_switch(toytown_citygsx, tmp_path, changes):
    if changes.get("feature_mask"):
        changes = dict(changes, feature_mask_start=2)
    cfg = config(toytown_citygsx, tmp_path / "scene", model_config(**changes))
    if "depth_weight" in changes:
        cfg.train_dataloader.dataset.update(depth_dir="auto", depth_kind="metric")
    runner = Runner.from_cfg(cfg)
    runner.train()
    scene = runner.model
    assert len(scene.splats) > 1500  # grown
    before = {name: value.clone() for name, value in scene.state_dict().items()}
    assert scene.motion.twists.abs().max() > 0
    for name, value in scene.named_parameters():
        assert torch.isfinite(value).all(), name
    # A checkpoint restores a scene of any size, paths of the exposure included.
    again = load_scene(tmp_path / "scene" / "iter_6.pth", cfg)
    for name, value in again.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.fixture(scope="module")
def trained(toytown_citygsx, tmp_path_factory):
    folder = tmp_path_factory.mktemp("appearance") / "scene"
    cfg = config(toytown_citygsx, folder, model_config(), max_iters=4)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner.model.eval(), runner.train_dataloader.dataset, folder / "iter_4.pth", cfg


def photograph(dataset, row):
    return torch.from_numpy(np.array(dataset.load(row)["img"])).permute(2, 0, 1).float() / 255


def test_codes_are_kept_for_further_views(trained):
    model, dataset, *_ = trained
    cameras = dataset.cameras.to(DEVICE)
    model.set_appearance(photograph(dataset, 0), cameras[0])
    calls = []
    generator = model.appearance.map_generator
    handle = generator.register_forward_hook(lambda *_: calls.append(1))
    first = model.render(cameras[:2], with_geometry=False)["rgb"]
    second = model.render(cameras[:2], with_geometry=False)["rgb"]
    assert not calls and torch.equal(first, second)
    # The same as without the cache.
    codes, _ = model._encode(photograph(dataset, 0), cameras[0], 1.0)
    fresh = model._render_one(cameras[1], codes, model.splats.means)["rgb"]
    torch.testing.assert_close(first[1:], fresh)
    # Blend 0 is the intrinsic look, whatever the photograph.
    model.set_appearance(photograph(dataset, 0), cameras[0], 0.0)
    plain = model.render(cameras[:1], with_geometry=False)["rgb"]
    model.clear_appearance()
    torch.testing.assert_close(model.render(cameras[:1], with_geometry=False)["rgb"], plain)
    handle.remove()


def test_kept_views_tell_exposures_apart(trained):
    """Renders of one blurred photograph share a number, photographs of a batch do not."""
    model, dataset, _, cfg = trained
    moving = MODELS.build(model_config(motion=dict(num_samples=3)))
    moving.initialize(dataset.cameras.to(DEVICE), model.splats.means, model.splats.means)
    samples = [SceneDataSample(metainfo=dict(camera_index=row)) for row in range(2)]
    for row, sample in enumerate(samples):
        sample.camera = dataset.cameras.to(DEVICE)[row]
    pictures = [photograph(dataset, row) for row in range(2)]
    for scene, numbers in ((copy.deepcopy(model), [0, 1]), (moving, [0, 0, 0, 1, 1, 1])):
        scene.train()
        scene.keeps_statistics = True
        scene.loss(pictures, samples)
        assert [view["exposure"] for view in scene.take_views()] == numbers


def test_views_are_written_in_the_look_asked_for(trained, tmp_path):
    scene, dataset, checkpoint, cfg = trained
    cfg = copy.deepcopy(cfg)
    cfg.test_dataloader = copy.deepcopy(cfg.train_dataloader)
    cfg.dump(tmp_path / "config.py")

    def written(**options):
        out = tmp_path / "_".join(["out", *map(str, options.values())])
        files = render_views(tmp_path / "config.py", checkpoint, out, every=4, **options)["test"]
        assert files == sorted((out / "test" / "renders").glob("*.png"))
        return np.stack([read_image(file) for file in files]).astype(int)

    camera = dataset.cameras.to(DEVICE)[0]
    scene.clear_appearance()
    intrinsic = written(appearance="intrinsic")
    expected = scene.render(camera)["rgb"][0].clamp(0, 1) * 255
    assert np.abs(intrinsic[0] - expected.detach().round().numpy()).max() <= 1
    own, one = written(), written(appearance=dataset.img_names[0])
    np.testing.assert_array_equal(own[0], one[0])  # the first view has that photograph
    assert np.abs(own[1] - one[1]).max() > 0
    assert np.abs(written(blend=0.0)[1] - own[1]).max() > 0
    with pytest.raises(UserError, match="training image, got 'moon.jpg'"):
        written(appearance="moon.jpg")


@pytest.mark.parametrize(("mode", "depth"), [("expected", 5.0), ("accumulated", 2.0)])
def test_depth_is_of_the_mode_asked_for_in_renders_and_in_the_loss(mode, depth):
    """A sheet at 5 m of opacity 0.4: its depth, or that times the light it takes."""
    K = torch.tensor([[30.0, 0, 12], [0, 30, 12], [0, 0, 1]])
    cameras = Cameras(K[None], torch.eye(4)[None], 24, 24)
    options = dict(use_color_net=False, sh_degree=0, depth_weight=(1.0, 1.0))
    options["losses"] = dict(loss_opacity=dict(type="OpacityLoss", loss_weight=0.0))
    model = MODELS.build(model_config(depth_mode=mode, **options))
    model.initialize(cameras, torch.tensor([[0.0, 0, 5]]), torch.tensor([[0.5, 0.5, 0.5]]))
    model.splats.log_scales.data[:] = torch.tensor([200.0, 200.0, 1e-3]).log()
    model.splats.opacity_logits.data.fill_(torch.tensor(0.4).logit().item())
    sample = SceneDataSample(camera=cameras[0], metainfo=dict(camera_index=0))
    sample.gt_depth = torch.full((24, 24), 5.0)
    sample.gt_depth[:1], sample.gt_depth[-1:] = 0.0, 9.0  # nothing was seen there
    assert float(model.render(cameras)["depth"][0, 12, 12]) == pytest.approx(depth, rel=5e-3)
    predicted = model.predict(None, [sample])[0]
    assert float(predicted.pred_depth[12, 12]) == pytest.approx(depth, rel=5e-3)
    loss = model.loss([torch.zeros(3, 24, 24)], [sample])["loss_depth"]
    assert float(loss) == pytest.approx((5 - depth) * 22 / 24, rel=2e-2, abs=2e-2)


def test_inverse_depth_is_that_of_the_gaussians(trained):
    model, dataset, *_ = trained
    model = copy.deepcopy(model)
    model.splats.opacity_logits.data.fill_(6.0)
    model.splats.log_scales.data.add_(0.7)
    out = model._render_one(
        dataset.cameras[0].to(DEVICE),
        None if model.appearance is None else model._intrinsic_codes(),
        model.splats.means, with_geometry=True, with_inverse_depth=True,
    )  # fmt: skip
    opaque = out["alpha"] > 0.99
    assert opaque.any()
    # Jensen: the mean of inverses is at least the inverse of the mean.
    assert (out["inverse_depth"][opaque] * out["depth"][opaque] > 0.98).all()


def test_view_synthesis_takes_the_look_of_each_photograph(trained):
    _, dataset, checkpoint, cfg = trained
    cameras = dataset.cameras.resize(32, 24)
    pictures = [torch.from_numpy(np.array(dataset.load(k)["img"])) for k in range(2)]
    spec = SynthesisSpec(
        map=str(checkpoint),
        map_config=cfg.model.to_dict(),
        perturber=dict(type="PosePerturber", translation=0.1, rotation=1),
        Ks=cameras.Ks[:2],
        viewmats=cameras.viewmats[:2],
        widths=cameras.widths[:2],
        heights=cameras.heights[:2],
        references=[p.permute(2, 0, 1) for p in pictures],
        reference_Ks=dataset.cameras.Ks[:2],
        options=dict(views_per_image=2, min_coverage=0.0),
    )
    synthesizer = build_synthesizer(spec)
    shown = []
    original = synthesizer.scene.set_appearance
    synthesizer.scene.set_appearance = lambda image, camera, blend: (
        shown.append((float(image.mean()), blend)),
        original(image, camera, blend),
    )
    views = synthesizer.synthesize(0)
    assert views.pictures.shape == (4, 3, 24, 32)
    expected = [float(p.float().mean() / 255) for p in pictures]
    np.testing.assert_allclose([mean for mean, _ in shown], expected, rtol=1e-4)
    assert all(0 <= blend <= 2 for _, blend in shown) and shown[0][1] != shown[1][1]


def test_colour_network_off_needs_no_maps():
    register_all_modules()
    scene = MODELS.build(model_config(use_color_net=False))
    assert scene.appearance is None and scene.splats.box_coords.shape[1:] == (0, 2)
    with pytest.raises(ValueError, match="feature_mask"):
        MODELS.build(model_config(use_color_net=False, feature_mask=True))
    with pytest.raises(ValueError, match="depth_mode"):
        MODELS.build(model_config(depth_mode="nearest"))
    with pytest.raises(ValueError, match="depth_mode: .*no gradient"):
        MODELS.build(model_config(depth_mode="median", depth_weight=(1.0, 0.1)))


def test_published_config_without_appearance_and_motion(toytown_citygsx, tmp_path):
    """Schedules of what is switched off do not stand in the way."""
    cfg = Config.fromfile("configs/rap/rap_map_appearance.py")
    cfg.work_dir = str(tmp_path)
    cfg.model.update(motion=None, use_color_net=False, appearance=None, sh_degree=1)
    cfg.train_cfg.update(max_iters=2, val_interval=100)
    cfg.default_hooks.checkpoint.update(interval=2)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(toytown_citygsx)
    register_all_modules()
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.model.appearance is None and runner.model.motion is None
    with pytest.raises(ValueError, match="parameter groups: expected"):
        cfg.param_scheduler[-1].optional = False
        Runner.from_cfg(cfg).train()
