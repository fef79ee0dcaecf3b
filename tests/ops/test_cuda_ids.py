"""Ids out of range on CUDA: left out, reported with the next wait, raised at once in debug mode."""

import pytest
import torch

import mmcity_ops as ops
from mmcity_ops.functional.intersection import tile_lists
from mmcity_ops.functional.rasterize import composite
from tests.ops.compare import NEEDS_CUDA, lists_of, on, projected, scene

pytestmark = NEEDS_CUDA
N, SIZE, TILES = 60, 40, 3
IMAGE = dict(width=SIZE, height=SIZE, tile_size=16)
ROWS = ("means2d", "conics", "colors", "opacities")


def wait():
    """An operator that waits for the device anyway."""
    return lists_of(on("cuda", projected(3)))


def tiling(ids, device):
    rows = projected(N, size=SIZE)
    lists = lists_of(rows, size=SIZE)
    given = dict(isect_offsets=lists.isect_offsets, flatten_ids=lists.flatten_ids) | ids
    return on(device, rows, ROWS), {key: value.to(device) for key, value in given.items()}


def render(device, **ids):
    rows, lists = tiling(ids, device)
    leaves = [rows[key] for key in ROWS]
    batched = [leaf[None] for leaf in leaves]
    return ops.rasterize_to_pixels(*batched, SIZE, SIZE, 16, **lists), leaves


def render_tiles(device, **ids):
    rows, lists = tiling(ids, device)
    leaves = [rows[key] for key in ROWS]
    return composite(*leaves, **IMAGE, **lists, backgrounds=None)[:2], leaves


def render_surfels(device, **ids):
    rows, lists = tiling(ids, device)
    transforms = torch.eye(3, device=device).repeat(1, N, 1, 1) * 3
    transforms[..., 2, 2] = 2.0
    normals = torch.rand(1, N, 3, device=device)
    leaves = [rows[key] for key in ("means2d", "colors", "opacities")]
    means2d, colors, opacities = (leaf[None] for leaf in leaves)
    images = ops.rasterize_to_pixels_2dgs(
        means2d, transforms, colors, opacities, normals, **IMAGE, **lists
    )
    return images, leaves


def list_tiles(device, image_ids):
    rows = on(device, projected(N, size=SIZE))
    lists = tile_lists(
        rows["means2d"], rows["radii"], rows["depths"], 16, TILES, TILES, n_images=2,
        image_ids=image_ids.to(device), max_isects=4000,
    )  # fmt: skip
    return (lists.tiles_per_gauss,), []


def packed_ids():
    """Every third pair of two cameras and 200 Gaussians."""
    pairs = torch.arange(0, 400, 3)
    return {"camera_ids": pairs // 200, "gaussian_ids": pairs % 200}


def shade(device, **ids):
    inputs = on(device, scene(), ("means", "viewmats"))
    ids = {key: value.to(device) for key, value in {**packed_ids(), **ids}.items()}
    coeffs = torch.linspace(-1, 1, 2400).view(200, 4, 3).to(device).requires_grad_()
    leaves = [inputs["means"], inputs["viewmats"], coeffs]
    return (ops.spherical_harmonics(1, *leaves, **ids),), leaves


def planes(device, **ids):
    inputs = on(device, scene(), ("means", "quats", "viewmats"))
    ids = {key: value.to(device) for key, value in {**packed_ids(), **ids}.items()}
    tensors = [inputs[key] for key in ("means", "quats", "scales", "viewmats")]
    return (ops.plane_features(*tensors, **ids),), [tensors[0], tensors[1], tensors[3]]


def with_bad(ids, place, value):
    bad = ids.clone()
    bad.view(-1)[place] = value
    return bad


def lists():
    return lists_of(projected(N, size=SIZE), size=SIZE)


CASES = {
    "rows beyond the last": (
        render, "flatten_ids", IndexError, lambda: with_bad(lists().flatten_ids, 5, N)
    ),
    "wide rows beyond the last": (
        render, "flatten_ids", IndexError, lambda: with_bad(lists().flatten_ids.long(), 5, 2**40)
    ),
    "rows of surfels beyond the last": (
        render_surfels, "flatten_ids", IndexError, lambda: with_bad(lists().flatten_ids, 5, N)
    ),
    "offsets beyond the lists": (
        render, "isect_offsets", ValueError, lambda: with_bad(lists().isect_offsets, 4, 10**6)
    ),
    "negative offsets": (
        render, "isect_offsets", ValueError, lambda: with_bad(lists().isect_offsets, 0, -1)
    ),
    "negative offsets of surfels": (
        render_surfels, "isect_offsets", ValueError,
        lambda: with_bad(lists().isect_offsets, 3, -1),
    ),
    "tiles beyond the image": (
        render_tiles, "tile_ids", ValueError, lambda: torch.tensor([0, TILES * TILES])
    ),
    "negative tiles": (render_tiles, "tile_ids", ValueError, lambda: torch.tensor([-1, 2])),
    "images beyond the last": (
        list_tiles, "image_ids", IndexError, lambda: with_bad(torch.zeros(N).long(), 7, 2)
    ),
    "negative images": (
        list_tiles, "image_ids", IndexError, lambda: with_bad(torch.zeros(N).long(), 7, -1)
    ),
    **{
        f"{key} of {function.__name__}: {value} at {place}": (
            function, key, IndexError,
            lambda key=key, place=place, value=value: with_bad(packed_ids()[key], place, value),
        )
        for function in (shade, planes)
        for key, value in (("camera_ids", 2), ("camera_ids", -1), ("gaussian_ids", 200))
        for place in (0, 100)
    },
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_ids_out_of_range_are_refused_as_on_the_cpu(case):
    function, argument, error, bad = CASES[case]
    with pytest.raises(error):
        function("cpu", **{argument: bad()})
    with ops.debug_mode(), pytest.raises(error, match=f"{argument}: expected numbers in"):
        function("cuda", **{argument: bad()})
    wait()  # nothing is left to report


@pytest.mark.parametrize("case", CASES)
def test_the_next_wait_reports_ids_that_kernels_left_out(case):
    function, argument, error, bad = CASES[case]
    outputs, leaves = function("cuda", **{argument: bad()})
    assert all(torch.isfinite(x).all() for x in outputs)
    if leaves:
        sum(x.sum() for x in outputs).backward()
        assert all(torch.isfinite(leaf.grad).all() for leaf in leaves if leaf.grad is not None)
    with pytest.raises(error, match=f"{argument}: expected numbers in"):
        wait()
    wait()


def test_checking_ids_waits_for_nothing():
    inputs = on("cuda", scene())
    ids = {key: value.cuda() for key, value in packed_ids().items()}
    rows, lists = tiling({}, "cuda")
    batched = [rows[key][None] for key in ROWS]
    torch.cuda.set_sync_debug_mode("error")
    try:
        ops.spherical_harmonics(
            0, inputs["means"], inputs["viewmats"], rows["colors"].new_zeros(200, 1, 3), **ids
        )
        ops.plane_features(
            *(inputs[key] for key in ("means", "quats", "scales", "viewmats")), **ids
        )
        ops.rasterize_to_pixels(*batched, SIZE, SIZE, 16, **lists)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_rows_beside_a_bad_one_keep_their_values():
    good, _ = shade("cuda")
    bad, _ = shade("cuda", camera_ids=with_bad(packed_ids()["camera_ids"], 7, 5))
    with pytest.raises(IndexError, match=r"camera_ids: expected numbers in \[0, 2\), got 5 at 7"):
        wait()
    assert torch.equal(bad[0][:7], good[0][:7]) and torch.equal(bad[0][8:], good[0][8:])
    assert not bad[0][7].any()
