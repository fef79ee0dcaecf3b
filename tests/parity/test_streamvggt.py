"""StreamVGGT against recorded vectors of the published network at reduced size."""

from pathlib import Path

import pytest
import torch

from mmcity.datasets.transforms.network_images import load_eval_image, load_network_image
from mmcity.models.layers import apply_rope, rope_tables_2d
from mmcity.models.streamvggt import decode_pose, encode_pose, unproject_depth
from mmcity.models.streamvggt.activations import activate_confidence, activate_points
from mmcity.models.streamvggt.dpt_head import position_embedding, uv_grid
from mmcity.structures.geometry import quat_to_rotmat, rotmat_to_quat, se3_inverse
from tests.conftest import golden_dir
from tests.parity.streamvggt_builder import golden_case, load

HEADS = {"atol": 1e-5, "rtol": 1e-4}


def folder() -> Path:
    return golden_dir("streamvggt")


def cases() -> list[str]:
    return sorted(path.name.removesuffix("_io.pt") for path in folder().glob("*_io.pt"))


def assert_close(actual, expected, **tolerance):
    torch.testing.assert_close(actual, expected.to(actual.dtype), **tolerance)


@pytest.fixture(scope="module", params=cases())
def case(request):
    torch.manual_seed(0)
    return golden_case(folder(), request.param)


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
def test_bidirectional_teacher():
    for name in cases():
        model, vectors = golden_case(folder(), name, causal=False)
        if "teacher_bidirectional" not in vectors:
            continue
        expected, images = vectors["teacher_bidirectional"], vectors["images"][None]
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


def track_case():
    for name in cases():
        model, vectors = golden_case(folder(), name)
        if "track" in vectors:
            return model, vectors
    pytest.fail("no vector file with tracks")


@torch.no_grad()
def test_tracker():
    model, vectors = track_case()
    expected, images = vectors["track"], vectors["images"][None]
    tokens = model.aggregator(images)
    maps = model.track_features(tokens, images)
    assert_close(maps, expected["feature_maps"], atol=2e-3, rtol=1e-3)

    coords, vis, conf = model.track_head.track(expected["query_points"], maps)
    # Errors grow per iteration: the flow embedding turns by hundreds of radians per pixel.
    for actual, wanted, atol in zip(coords, expected["coord_iters"], (1e-5, 1e-3, 2e-2)):
        assert_close(actual, wanted, atol=atol, rtol=1e-5)
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
    @pytest.fixture
    def vectors(self):
        return load(folder(), "geometry.pt")

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
        viewmats = torch.eye(4).repeat(4, 1, 1)
        viewmats[:, :3] = vectors["extrinsic"][0]
        assert_close(se3_inverse(viewmats), vectors["se3_inverse"], atol=1e-5, rtol=1e-5)

    def test_activations(self, vectors):
        raw4, raw2 = vectors["head_raw4"].movedim(1, -1), vectors["head_raw2"].movedim(1, -1)
        assert_close(activate_points(raw4[..., :3], "inv_log"), vectors["head_points_inv_log"])
        assert_close(activate_confidence(raw4[..., 3]), vectors["head_conf4"])
        assert_close(activate_points(raw2[..., :1], "exp"), vectors["head_depth_exp"])
        assert_close(activate_confidence(raw2[..., 1]), vectors["head_conf2"])

    def test_position_embedding(self, vectors):
        height, width, channels = vectors["uv_embed16"].shape
        aspect = (14 * width) / (14 * height)
        assert_close(uv_grid(width, height, aspect).float(), vectors["uv_grid_w7_h5"])
        of_x, of_y = position_embedding(width, height, aspect, channels)
        embedding = torch.cat(
            [of_x.expand(height, -1, -1), of_y[:, None].expand(-1, width, -1)], dim=-1
        )
        assert_close(embedding.float(), vectors["uv_embed16"], atol=1e-6, rtol=1e-5)

    def test_rope(self, vectors):
        x = vectors["rope_in"]
        tables = rope_tables_2d(vectors["rope_positions"][0], x.shape[-1])
        assert_close(apply_rope(x, *tables), vectors["rope_out"], atol=1e-6, rtol=1e-5)


class TestPreprocessing:
    @pytest.mark.parametrize("name", ["crop", "pad", "eval_resize"])
    def test_loaders(self, name):
        vectors = load(folder(), "preprocess.pt")
        checked = 0
        for case in vectors.values():
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
            assert_close(out[:, ::37, ::37], expected["samples_every_37"], atol=atol, rtol=0)
            assert_close(out.mean((1, 2)), expected["mean"], atol=1 / 255, rtol=0)
            checked += 1
        assert checked

    def test_square_image_is_accepted(self):
        image = load(folder(), "preprocess.pt")["square"]["image"].numpy()
        assert load_eval_image(image).shape == (3, 518, 518)
