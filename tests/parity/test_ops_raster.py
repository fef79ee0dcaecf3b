"""Tile lists and compositing against golden vectors, on the reference and the native CPU code."""

import os
import re
from pathlib import Path

import pytest
import torch

import mmcity_ops
from tests.parity._golden import Golden, assert_close_l2, assert_images_close, find_cases, vectors

BACKENDS = [
    pytest.param(("reference", torch.float64), id="reference-float64"),
    pytest.param(("native", torch.float64), id="native-float64"),
    pytest.param(("native", torch.float32), id="native-float32"),
]
RASTER_CASES = [*find_cases("rasterize"), *find_cases("garden_crop")]
INPUTS = ("means2d", "conics", "colors", "opacities")
LISTS = ("tiles_per_gauss", "isect_ids", "flatten_ids", "isect_offsets")


@pytest.fixture(params=BACKENDS)
def dtype(request, monkeypatch) -> torch.dtype:
    backend, dtype = request.param
    monkeypatch.setenv("MMCITY_OPS_BACKEND", backend)
    return dtype


def grid_of(golden: Golden) -> tuple[int, int, int]:
    """Number of images, columns and rows of tiles."""
    width, height, side = (golden.scalar(key) for key in ("width", "height", "tile_size"))
    return len(golden["means2d"]), -(-width // side), -(-height // side)


def lists_of(golden: Golden, **kwargs):
    _, tw, th = grid_of(golden)
    return mmcity_ops.isect_tiles(
        golden["means2d"], golden["radii"], golden["depths"], golden.scalar("tile_size"), tw, th,
        **kwargs,
    )  # fmt: skip


@pytest.mark.parametrize("path", RASTER_CASES, ids=lambda path: path.stem)
def test_box_lists_are_bit_exact(path, dtype):
    golden = Golden(path, dtype)
    counts, isect_ids, flatten_ids = lists_of(golden)
    offsets = mmcity_ops.isect_offset_encode(isect_ids, *grid_of(golden))
    present = [key for key in LISTS if key in golden]
    if not present:
        pytest.skip(f"{path.name} holds no lists")
    for key, lists in zip(LISTS, (counts, isect_ids, flatten_ids, offsets)):
        if key in present:
            assert torch.equal(lists.long(), golden[key].long()), key


@pytest.mark.parametrize("bounds", ["aabb", "ellipse"])
@pytest.mark.parametrize("path", RASTER_CASES, ids=lambda path: path.stem)
def test_images_and_gradients(path, dtype, bounds):
    golden = Golden(path, dtype)
    leaves = {key: golden.leaf(key) for key in (*INPUTS, "backgrounds") if key in golden}
    exact = {"conics": golden["conics"], "opacities": golden["opacities"]}
    _, isect_ids, flatten_ids = lists_of(golden, **(exact if bounds == "ellipse" else {}))
    offsets = mmcity_ops.isect_offset_encode(isect_ids, *grid_of(golden))
    renders, alphas = mmcity_ops.rasterize_to_pixels(
        *(leaves[key] for key in INPUTS),
        golden.scalar("width"), golden.scalar("height"), golden.scalar("tile_size"), offsets,
        flatten_ids, leaves.get("backgrounds"), golden["masks"] if "masks" in golden else None,
        absgrad=True,
    )  # fmt: skip
    assert_images_close("renders", renders, golden, "render_colors")
    assert_images_close("alphas", alphas, golden, "render_alphas")
    torch.autograd.backward(
        [renders, alphas], [golden["v_render_colors"], golden["v_render_alphas"]]
    )
    for key, leaf in leaves.items():
        assert_close_l2(f"v_{key}", leaf.grad, golden, f"v_{key}")
    if "v_means2d_abs" in golden:
        assert_close_l2("absgrad", leaves["means2d"].absgrad, golden, "v_means2d_abs")


@pytest.mark.parametrize(
    "path",
    [path for path in RASTER_CASES if "needed_tiles" in Golden(path)],
    ids=lambda path: path.stem,
)
def test_ellipse_lists_hold_every_needed_tile_and_no_tile_outside_the_box(path, dtype):
    golden = Golden(path, dtype)
    images, tw, th = grid_of(golden)
    shape = tuple(golden["needed_tiles_shape"].tolist())

    def members(flatten_ids, isect_ids):
        tile_bits = (th * tw - 1).bit_length()
        tile = (isect_ids >> 32) & ((1 << tile_bits) - 1)
        table = torch.zeros(shape[0] * shape[1], th * tw, dtype=torch.bool)
        table[flatten_ids.long().cpu(), tile.cpu()] = True
        return table

    _, box_keys, box_ids = lists_of(golden)
    _, keys, ids = lists_of(golden, conics=golden["conics"], opacities=golden["opacities"])
    packed = golden.arrays["needed_tiles"]
    count = images * shape[1] * th * tw
    bits = torch.from_numpy(packed)[:, None] >> torch.arange(7, -1, -1, dtype=torch.uint8) & 1
    needed = bits.reshape(-1)[:count].bool().reshape(-1, th * tw)
    emitted, box = members(ids, keys), members(box_ids, box_keys)
    assert not (needed & ~emitted).any()
    assert not (emitted & ~box).any()
    assert (emitted & ~needed).sum() <= 0.25 * (box & ~needed).sum()


@vectors("gaussians_2dgs")
def test_2dgs(path, dtype):
    golden = Golden(path, dtype)
    leaves = {key: golden.leaf(key) for key in ("means", "quats", "scales", "opacities", "colors")}
    width, height, ts = (golden.scalar(key) for key in ("width", "height", "tile_size"))
    radii, means2d, depths, transforms, normals = mmcity_ops.projection_2dgs(
        leaves["means"], leaves["quats"], leaves["scales"], golden["viewmats"], golden["Ks"],
        width, height,
    )  # fmt: skip
    seen = (golden["radii"] > 0).all(-1)
    assert torch.equal((radii > 0).all(-1), seen)
    assert torch.equal(radii[seen], golden["radii"][seen])
    # The file keeps the factor s_3 in its normals; ours are of unit length.
    normals = normals * leaves["scales"][:, 2:]
    loose = 1e-9 if dtype == torch.float64 else 2e-4
    for name, got in [("means2d", means2d), ("depths", depths), ("normals", normals)]:
        torch.testing.assert_close(got[seen], golden[name][seen], rtol=loose, atol=loose)
    torch.testing.assert_close(
        transforms[seen], golden["ray_transforms"][seen], rtol=loose, atol=loose
    )
    per_image = leaves["opacities"].expand(len(golden["viewmats"]), -1)
    for rows in (means2d, transforms, per_image):
        rows.retain_grad()
    _, tw, th = grid_of(golden)
    lists = mmcity_ops.tile_lists(means2d, radii, depths, ts, tw, th)
    renders, alphas, normal_image, _, _ = mmcity_ops.rasterize_to_pixels_2dgs(
        means2d, transforms, leaves["colors"], per_image, normals, width, height,
        ts, lists.isect_offsets, lists.flatten_ids,
    )  # fmt: skip
    assert_images_close("renders", renders, golden, "render_colors")
    assert_images_close("alphas", alphas, golden, "render_alphas")
    assert_images_close("normals", normal_image, golden, "render_normals")
    torch.autograd.backward(
        [renders, alphas, normal_image],
        [golden["v_render_colors"], golden["v_render_alphas"], golden["v_render_normals"]],
    )
    for key in ("means", "quats", "scales", "colors"):
        assert_close_l2(f"v_{key}", leaves[key].grad, golden, f"v_{key}")
    # The file keeps a gradient for each image, or their sum.
    is_sum = golden.arrays["v_opacities"].ndim == 1
    opacities = leaves["opacities"].grad if is_sum else per_image.grad
    assert_close_l2("v_opacities", opacities, golden, "v_opacities")
    assert_close_l2("v_means2d", means2d.grad, golden, "v_means2d")
    assert_close_l2("v_ray_transforms", transforms.grad, golden, "v_ray_transforms")


def test_every_golden_file_is_read_by_a_test():
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_ops*.py"))
    prefixes = set(re.findall(r'(?:vectors|find_cases)\("(\w+)"\)', tests))
    files = {path.stem for path in find_cases("")}
    unread = {name for name in files if not any(name.startswith(p) for p in prefixes)}
    assert not unread
    assert len(files) >= 20 or "MMCITY_GOLDEN" in os.environ
