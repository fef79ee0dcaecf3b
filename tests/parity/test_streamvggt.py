"""StreamVGGT against recorded vectors of the published network at reduced size."""

import pytest
import torch

from mmcity.datasets.sequences.eval_layouts import co3d_to_opencv
from mmcity.datasets.transforms.network_images import (
    TARGET_SIZE,
    load_eval_image,
    load_network_image,
)
from mmcity.evaluation.functional.camera_poses import (
    accuracy_below,
    pose_auc,
    relative_pose_errors,
)
from mmcity.evaluation.functional.depth import evaluate_depth
from mmcity.evaluation.functional.point_clouds import (
    align_point_maps_by_median,
    cloud_distances,
    completion_ratio,
)
from mmcity.models.layers import apply_rope, rope_tables_2d
from mmcity.models.streamvggt import decode_pose, encode_pose, unproject_depth
from mmcity.models.streamvggt.activations import activate_confidence, activate_points
from mmcity.models.streamvggt.distill_loss import (
    DistillationLoss,
    fit_scale_shift,
    mean_distance,
    surface_normals,
)
from mmcity.models.streamvggt.dpt_head import _axis_coordinates, position_embedding
from mmcity.models.streamvggt.supervised_loss import PoseRegressionLoss
from mmcity.structures.geometry import quat_to_rotmat, rotmat_to_quat, se3_inverse
from tests.parity._golden import find_cases, vectors
from tests.parity.streamvggt_builder import golden_case, load

HEADS = {"atol": 1e-5, "rtol": 1e-4}


CASES = find_cases("", "streamvggt", "_io.pt")
TRACK_ATOL = (1e-5, 1e-3, 2e-2)  # of the first, the second and later iterations


def having(key: str) -> pytest.MarkDecorator:
    paths = [path for path in CASES if key in load(path)]
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)


def files(prefix: str) -> pytest.MarkDecorator:
    return vectors(prefix, "streamvggt", ".pt")


def assert_close(actual, expected, **tolerance):
    torch.testing.assert_close(actual, expected.to(actual.dtype), **tolerance)


@pytest.fixture(scope="module", params=CASES, ids=lambda path: path.stem)
def case(request):
    torch.manual_seed(0)
    return golden_case(request.param)


@pytest.fixture(scope="module")
def streamed(case):
    """Frame by frame, in both modes of the camera cache."""
    model, vectors = case
    runs = {}
    for mode in ("per_iteration", "upstream"):
        session = model.stream(camera_cache_mode=mode)
        steps = [session.step(image) for image in vectors["images"]]
        runs[mode] = (steps, session.cache)
    return runs


def test_patch_tokens(case):
    model, vectors = case
    with torch.no_grad():
        tokens = model.aggregator.embed_patches(vectors["images"][None])[0]
    assert_close(tokens, vectors["patch_tokens"], atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_full_causal_pass(case):
    model, vectors = case
    images, full = vectors["images"][None], vectors["full"]
    tokens = model.aggregator(images, keep_all=True)
    assert_close(torch.stack(list(tokens.values())), full["tokens"], atol=2e-5, rtol=1e-4)
    out = model(images)
    assert_close(torch.stack(out["pose_enc_iters"]), full["pose_enc_iters"], **HEADS)
    for name in ("depth", "depth_conf", "world_points", "world_points_conf"):
        assert_close(out[name], full[name], **HEADS)


@torch.no_grad()
@having("teacher_bidirectional")
def test_bidirectional_teacher(path):
    model, golden = golden_case(path, causal=False)
    expected, images = golden["teacher_bidirectional"], golden["images"][None]
    out = model(images)
    last = model.aggregator(images, causal=False)[model.last_layer]
    assert_close(last, expected["last_tokens"], atol=2e-5, rtol=1e-4)
    assert_close(torch.stack(out["pose_enc_iters"]), expected["pose_enc_iters"], **HEADS)
    for key in ("depth", "depth_conf"):
        assert_close(out[key], expected[key], **HEADS)
    assert_close(out["world_points"], expected["world_points"], atol=2e-3, rtol=1e-3)


def test_streaming_equals_full_pass(case, streamed):
    _, vectors = case
    steps, _ = streamed["per_iteration"]
    for name in ("depth", "depth_conf", "world_points", "world_points_conf"):
        stream = torch.cat([step[name] for step in steps], dim=1)
        assert_close(stream, vectors["full"][name], **HEADS)
    poses = torch.stack([torch.cat(p, dim=1) for p in zip(*(s["pose_enc_iters"] for s in steps))])
    assert_close(poses, vectors["full"]["pose_enc_iters"], **HEADS)


def test_streaming_with_the_shared_camera_cache(case, streamed):
    _, vectors = case
    steps, _ = streamed["upstream"]
    poses = torch.stack([torch.cat(p, dim=1) for p in zip(*(s["pose_enc_iters"] for s in steps))])
    assert_close(poses, vectors["streaming"]["pose_enc_iters"], **HEADS)


def test_cache_contents(case, streamed):
    model, vectors = case
    cache = streamed["upstream"][1]
    aggregator = model.aggregator
    height, width = (side // model.patch_size for side in vectors["images"].shape[-2:])
    rope = aggregator.rope_tables(height, width, torch.device("cpu"))
    for store, block, (raw_keys, values) in zip(
        cache.layers, aggregator.global_blocks, vectors["kv_cache"]
    ):
        with torch.no_grad():  # the recorded keys precede norm and rotation
            keys = apply_rope(block.attn.k_norm(raw_keys.float().flatten(2, 3)), *rope)
        assert_close(store.read()[0], keys, atol=5e-3, rtol=2e-3)
        assert_close(store.read()[1], values.flatten(2, 3), atol=2e-3, rtol=1e-3)
    for (store,), (keys, values) in zip(cache.camera, vectors["camera_kv_cache"]):
        assert_close(store.read()[0], keys.squeeze(3), **HEADS)
        assert_close(store.read()[1], values.squeeze(3), **HEADS)


@torch.no_grad()
@having("track")
def test_tracker(path):
    model, vectors = golden_case(path)
    expected, images = vectors["track"], vectors["images"][None]
    tokens = model.aggregator(images)
    maps = model.track_features(tokens, images)
    assert_close(maps, expected["feature_maps"], atol=2e-3, rtol=1e-3)

    coords, vis, conf = model.track_head.track(expected["query_points"], maps)
    # Errors grow per iteration: the flow embedding turns by hundreds of radians per pixel.
    for k, (actual, wanted) in enumerate(zip(coords, expected["coord_iters"], strict=True)):
        assert_close(actual, wanted, atol=TRACK_ATOL[min(k, 2)], rtol=1e-5)
    assert_close(vis.sigmoid(), expected["vis"], atol=1e-3, rtol=0)
    assert_close(conf.sigmoid(), expected["conf"], atol=1e-3, rtol=0)

    stride = model.track_head.tracker.stride
    coords, vis, conf = model.track_head.tracker(
        expected["query_points"],
        maps,
        model.track_head.iters,
        adjust_coords=lambda index, _: expected["coord_iters"][index] / stride,
    )
    for actual, wanted in zip(coords, expected["coord_iters"]):
        assert_close(actual, wanted, atol=2e-5, rtol=1e-6)
    assert_close(vis.sigmoid(), expected["vis"], atol=2e-6, rtol=0)
    assert_close(conf.sigmoid(), expected["conf"], atol=2e-6, rtol=0)


class TestGeometry:
    @pytest.fixture(params=find_cases("geometry", "streamvggt", ".pt"), ids=lambda path: path.stem)
    def vectors(self, request):
        return load(request.param)

    def test_quaternions(self, vectors):
        rotmat = quat_to_rotmat(vectors["quat_xyzw"][..., [3, 0, 1, 2]])
        assert_close(rotmat, vectors["rotmat"])
        back = rotmat_to_quat(vectors["rotmat"])[..., [1, 2, 3, 0]]
        assert_close(back, vectors["quat_back"], atol=1e-5, rtol=1e-4)

    def test_pose_encoding(self, vectors):
        size = vectors["hw"].tolist()
        viewmats, Ks = decode_pose(vectors["pose_enc"], size, min_fov=0)
        assert_close(viewmats[..., :3, :], vectors["extrinsic"], atol=1e-6, rtol=1e-5)
        assert_close(Ks, vectors["intrinsic"], atol=1e-4, rtol=1e-5)
        back = encode_pose(vectors["extrinsic"], vectors["intrinsic"], size)
        assert_close(back, vectors["pose_enc_back"], atol=1e-5, rtol=1e-4)

    def test_unprojection(self, vectors):
        depth = vectors["depth"][..., 0].double()
        frames = len(depth)
        viewmats = vectors["extrinsic"].double().flatten(0, 1)[:frames]
        Ks = vectors["intrinsic"].double().flatten(0, 1)[:frames]
        points = unproject_depth(depth, viewmats, Ks)
        assert_close(points, vectors["world_points"], atol=1e-5, rtol=1e-5)

    def test_rigid_inverse(self, vectors):
        extrinsics = vectors["extrinsic"][0]
        viewmats = torch.eye(4).repeat(len(extrinsics), 1, 1)
        viewmats[:, :3] = extrinsics
        assert_close(se3_inverse(viewmats), vectors["se3_inverse"], atol=1e-5, rtol=1e-5)

    def test_activations(self, vectors):
        raw4, raw2 = vectors["head_raw4"].movedim(1, -1), vectors["head_raw2"].movedim(1, -1)
        assert_close(activate_points(raw4[..., :3], "inv_log"), vectors["head_points_inv_log"])
        assert_close(activate_confidence(raw4[..., 3]), vectors["head_conf4"])
        assert_close(activate_points(raw2[..., :1], "exp"), vectors["head_depth_exp"])
        assert_close(activate_confidence(raw2[..., 1]), vectors["head_conf2"])

    def test_position_embedding(self, vectors):
        (expected_grid,) = (v for key, v in vectors.items() if key.startswith("uv_grid"))
        (expected,) = (v for key, v in vectors.items() if key.startswith("uv_embed"))
        height, width, channels = expected.shape
        aspect = width / height
        axes = _axis_coordinates(width, height, aspect, None)
        grid = torch.stack(torch.meshgrid(*axes, indexing="xy"), dim=-1)
        assert_close(grid.float(), expected_grid)
        of_x, of_y = position_embedding(width, height, aspect, channels)
        embedding = torch.cat(
            [of_x.expand(height, -1, -1), of_y[:, None].expand(-1, width, -1)], dim=-1
        )
        assert_close(embedding.float(), expected, atol=1e-6, rtol=1e-5)

    def test_rope(self, vectors):
        x = vectors["rope_in"]
        tables = rope_tables_2d(vectors["rope_positions"][0], x.shape[-1])
        assert_close(apply_rope(x, *tables), vectors["rope_out"], atol=1e-6, rtol=1e-5)


class TestPreprocessing:
    @files("preprocess")
    @pytest.mark.parametrize("name", ["crop", "pad", "eval_resize"])
    def test_loaders(self, path, name):
        checked = 0
        for case in load(path).values():
            if name not in case:
                continue
            image = case["image"].numpy()
            if name == "eval_resize":
                out = 2 * load_eval_image(image) - 1
            else:
                out = load_network_image(image, name)
            expected = case[name]
            assert list(out.shape) == list(expected["shape"])
            atol = (4 if name == "eval_resize" else 2) / 255
            for key in (key for key in expected if key.startswith("samples_every_")):
                step = int(key.removeprefix("samples_every_"))
                assert_close(out[:, ::step, ::step], expected[key], atol=atol, rtol=0)
            assert_close(out.mean((1, 2)), expected["mean"], atol=1 / 255, rtol=0)
            checked += 1
        assert checked

    @files("preprocess")
    def test_square_image_is_accepted(self, path):
        for case in load(path).values():
            if "eval_resize_error" in case:
                assert load_eval_image(case["image"].numpy()).shape == (3, TARGET_SIZE, TARGET_SIZE)


class TestMetrics:
    @pytest.fixture(params=find_cases("metrics", "streamvggt", ".pt"), ids=lambda path: path.stem)
    def vectors(self, request):
        return load(request.param)

    def test_depth(self, vectors):
        for name, expected in vectors["depth_metrics"].items():
            words = name.replace("scale_shift_lad_lr1e-4", "scale&shift_upstream").split("_max")
            alignment = words[0]
            limits = words[1].split("_clip") if len(words) > 1 else []
            result = evaluate_depth(
                vectors["depth_pred"],
                vectors["depth_gt"],
                alignment,
                max_depth=float(limits[0]) if limits else None,
                post_clip=float(limits[1]) if len(limits) > 1 else None,
            )
            # The recorded 'scale' runs carry the rounding of float32.
            loose = 3e-3 if alignment == "scale" else 1e-5
            for key, value in expected.items():
                atol = loose if key.startswith("δ") else 0
                assert result[key] == pytest.approx(value, rel=loose, abs=atol), (name, key)

    def test_reconstruction(self, vectors):
        rec = {name: value for name, value in vectors["rec"].items()}
        gt = [rec["gt_points"].numpy(), rec["gt_normals"].numpy()]
        pred = [rec["rec_points"].numpy(), rec["rec_normals"].numpy()]
        accuracy = list(cloud_distances(*pred, *gt).values())
        completion = list(cloud_distances(*gt, *pred).values())
        assert accuracy == pytest.approx(rec["accuracy"], rel=1e-5)
        assert completion == pytest.approx(rec["completion"], rel=1e-5)
        for key in (key for key in rec if key.startswith("completion_ratio_")):
            digits = key.removeprefix("completion_ratio_")  # 005 is 0.05
            ratio = completion_ratio(gt[0], pred[0], float(f"{digits[0]}.{digits[1:]}"))
            assert ratio == pytest.approx(rec[key], rel=1e-5)

    def test_point_map_alignment(self, vectors):
        case = vectors["pmap_align"]
        out = align_point_maps_by_median(
            [view["pts3d"][0] for view in case["gts"]],
            case["gts"][0]["camera_pose"][0],
            [view["pts3d_in_other_view"][0] for view in case["preds"]],
            [view["valid_mask"][0] for view in case["gts"]],
        )
        for name in ("gt_shift_z", "pred_shift_z", "gt_scale", "pred_scale"):
            assert getattr(out, name) == pytest.approx(float(case[name]), rel=1e-5), name
        for mine, stored in ((out.gt, case["gt_out"]), (out.pred, case["pred_out"])):
            for points, expected, view in zip(mine, stored, case["gts"]):
                mask = view["valid_mask"][0]
                assert_close(points[mask], expected[0][mask], atol=1e-4, rtol=1e-4)

    def test_relative_poses(self, vectors):
        case = vectors["pose"]
        rotation, translation = relative_pose_errors(case["pred_w2c"], case["gt_w2c"])
        assert_close(rotation, case["rot_err_deg"], atol=1e-5, rtol=1e-5)
        assert_close(translation, case["trans_err_deg"], atol=1e-5, rtol=1e-5)
        figures = {
            "racc": lambda degrees: accuracy_below(rotation, degrees),
            "tacc": lambda degrees: accuracy_below(translation, degrees),
            "auc": lambda degrees: pose_auc(rotation, translation, degrees),
        }
        for name, figure in figures.items():
            limits = [int(key.removeprefix(name)) for key in case if key.startswith(name)]
            assert limits
            for degrees in limits:
                assert figure(degrees) == pytest.approx(case[f"{name}{degrees}"], rel=1e-5)

    def test_co3d_axes(self, vectors):
        case = vectors["co3d"]
        assert_close(co3d_to_opencv(case["R"], case["T"]), case["extrinsic_opencv"])


class TestLosses:
    TERMS = {
        "loss_camera": "Lcamera",
        "loss_depth": "Ldepth",
        "loss_points": "Lpmap",
        "loss_track": "Ltrack",
    }

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("corner_safe", [True, False])
    @files("distill_loss")
    def test_distillation(self, path, training, corner_safe):
        vectors = load(path)
        loss = DistillationLoss(corner_safe=corner_safe, upstream_visibility=True)
        terms = loss.train(training)(vectors["preds"], vectors["gts"])
        entries = vectors["corner_safe"] if corner_safe else vectors
        details = entries["details" if training else "details_eval_mode"]
        for mine, name in self.TERMS.items():
            loose = name == "Lpmap" and not corner_safe
            tolerance = {"abs": 3e-2} if loose else {"rel": 1e-5, "abs": 1e-6}
            assert float(terms[mine]) == pytest.approx(details[name], **tolerance), name
        total = float(sum(terms.values()))
        assert total == pytest.approx(details["total"], abs=1e-6 if corner_safe else 3e-2, rel=1e-5)

    @files("distill_loss")
    def test_distillation_gradients_and_parts(self, path):
        vectors = load(path)
        preds = [{k: v.clone().requires_grad_() for k, v in p.items()} for p in vectors["preds"]]
        loss = DistillationLoss(corner_safe=False, upstream_visibility=True).train()
        sum(loss(preds, vectors["gts"]).values()).backward()
        for pred, grads in zip(preds, vectors["grads"]):
            for name, expected in grads.items():
                assert_close(pred[name].grad, expected, atol=1e-6, rtol=1e-3)

        pred, gt, parts = vectors["preds"][0], vectors["gts"][0], vectors["parts"]
        mask = gt["valid_mask"]
        factor = mean_distance(pred["depth"], mask)
        assert_close(factor, parts["depth_norm_scale_pred"])
        depth = pred["depth"] / factor.view(-1, 1, 1, 1)
        true = gt["depth"] / mean_distance(gt["depth"], mask).view(-1, 1, 1, 1)
        scale, shift = fit_scale_shift(depth, true)
        assert_close(scale.reshape(-1), parts["depth_scale"].reshape(-1))
        assert_close(shift.reshape(-1), parts["depth_shift"].reshape(-1), atol=1e-5, rtol=1e-4)

        name = "pts3d_in_other_view"
        points = pred[name] / mean_distance(pred[name], mask).view(-1, 1, 1, 1)
        true = gt[name] / mean_distance(gt[name], mask).view(-1, 1, 1, 1)
        scale, shift = fit_scale_shift(points, true)
        assert_close(scale, parts["pmap_scale"])
        assert_close(shift, parts["pmap_shift"], atol=1e-5, rtol=1e-4)
        normals = surface_normals(scale * points + shift)
        inner = (..., slice(1, -1), slice(1, -1), slice(None))
        assert_close(normals[inner], parts["normals"][inner], atol=3e-3, rtol=1e-2)

    @files("finetune_loss")
    def test_supervised(self, path):
        vectors = load(path)
        loss = PoseRegressionLoss(upstream=True)
        terms = loss(vectors["preds"], vectors["gts"])
        assert float(terms["pose_error"]) == pytest.approx(float(vectors["pose_loss"]), rel=1e-5)
        total = float(terms["loss_points"] + terms["loss_pose"])
        assert total == pytest.approx(float(vectors["total"]), rel=1e-5)
