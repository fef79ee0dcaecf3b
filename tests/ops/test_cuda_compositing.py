"""Compositing on CUDA against the CPU: tile sizes, masks, partitions, capacities, channels."""

import pytest
import torch

import mmcity_ops as ops
from mmcity_ops.functional.intersection import force_wide_ids
from tests.ops.compare import (
    GEOMETRY,
    NEEDS_CUDA,
    compare,
    lists_of,
    on,
    projected,
    relative,
    scene,
)
from tests.ops.scene import HEIGHT, WIDTH

pytestmark = NEEDS_CUDA
SPLATS = ("means2d", "conics", "colors", "opacities")


def composite(splats, size, ts, lists, **kwargs):
    """Renders and alphas of one image of a few splats."""
    device = splats["means2d"].device
    return ops.rasterize_to_pixels(
        *(splats[key][None] for key in SPLATS), size, size, ts,
        lists.isect_offsets.to(device), lists.flatten_ids.to(device), **kwargs,
    )  # fmt: skip


@pytest.mark.parametrize("ts", [8, 16, 24, 32])
@pytest.mark.parametrize("channels", [3, 7, 33])
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_tile_sizes_with_masks(ts, channels, deterministic, wide, cuda_determinism):
    """70 pixels are no multiple of any tile."""
    cuda_determinism(deterministic)
    rows = projected(400, channels=channels, size=70)
    tiles = -(-70 // ts)
    masks = torch.rand(1, tiles, tiles) > 0.3
    force_wide_ids(wide)
    try:
        lists = lists_of(rows, size=70, ts=ts, masks=masks)
    finally:
        force_wide_ids(False)
    inputs = {key: rows[key] for key in SPLATS}
    inputs["backgrounds"] = torch.rand(1, channels)

    def run(backgrounds, **splats):
        on_device = masks.to(backgrounds.device)
        return composite(splats, 70, ts, lists, backgrounds=backgrounds, masks=on_device)

    compare(run, inputs, (*SPLATS, "backgrounds"), outliers=1e-3)


CHANNELS = [*range(1, 36), 48, 63, 64, 65, 66, 96, 127, 128, 129, 256]


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("deterministic", [False, True])
def test_numbers_of_channels(channels, deterministic, cuda_determinism):
    cuda_determinism(deterministic)
    rows = projected(120, channels=channels, size=24)
    lists = lists_of(rows, size=24)
    inputs = {key: rows[key] for key in SPLATS}
    inputs["backgrounds"] = torch.rand(1, channels)

    def run(backgrounds, **splats):
        return composite(splats, 24, 16, lists, backgrounds=backgrounds)

    compare(run, inputs, (*SPLATS, "backgrounds"), outliers=3e-3)


@pytest.mark.parametrize("channels", [3, 20])
@pytest.mark.parametrize("deterministic", [False, True])
def test_absolute_gradients_and_frozen_parts(channels, deterministic, cuda_determinism):
    cuda_determinism(deterministic)
    rows = projected(channels=channels)
    lists, results = lists_of(rows), {}
    for device in ("cpu", "cuda"):
        seen = results[device] = []
        for grads in (("means2d", "conics", "opacities"), ("colors",), ("means2d", "colors")):
            x = on(device, {key: rows[key] for key in SPLATS}, grads)
            means2d = x["means2d"][None]
            renders, alphas = ops.rasterize_to_pixels(
                means2d, *(x[key][None] for key in SPLATS[1:]), 64, 64, 16,
                lists.isect_offsets.to(device), lists.flatten_ids.to(device),
                absgrad="means2d" in grads,
            )  # fmt: skip
            weights = torch.linspace(0.3, 1.2, renders.numel()).view(renders.shape).to(device)
            ((renders * weights).sum() + alphas.square().sum()).backward()
            seen += [x[key].grad for key in grads]
            seen += [means2d.absgrad] if "means2d" in grads else []
    for got, want in zip(results["cuda"], results["cpu"]):
        assert relative(got, want) < 1e-4


@pytest.mark.parametrize("ts", [8, 16, 32])
@pytest.mark.parametrize("layout", ["blocks", "dense"])
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("channels", [3, 20])
def test_shares_of_tiles(ts, layout, deterministic, channels, cuda_determinism):
    cuda_determinism(deterministic)
    rows = projected(channels=channels, size=61)
    tiles = -(-61 // ts)
    partition = ops.TilePartition(torch.rand(1, tiles, tiles) > 0.4)
    inputs = {key: rows[key][None] for key in (*SPLATS, "depths", "radii")}
    inputs["backgrounds"] = torch.rand(1, channels)
    inputs["extras"] = torch.rand(1, 300, 2)

    def run(means2d, conics, colors, opacities, depths, radii, backgrounds, extras):
        renders, alphas, meta = ops.rasterize_tiles(
            means2d, conics, colors, opacities, depths, radii, width=61, height=61, tile_size=ts,
            partition=partition, extras=extras, backgrounds=backgrounds, layout=layout,
        )  # fmt: skip
        return renders, alphas, meta["pixel_mask"], meta["tile_ids"], meta["flatten_ids"]

    compare(run, inputs, (*SPLATS, "backgrounds", "extras"), outliers=1e-3)


@pytest.mark.parametrize("factor", [1.0, 2.0])
@pytest.mark.parametrize("channels", [3, 20])
@pytest.mark.parametrize("deterministic", [False, True])
def test_lists_of_fixed_capacity(factor, channels, deterministic, cuda_determinism):
    cuda_determinism(deterministic)
    rows = projected(channels=channels)
    capacity = int(int(lists_of(rows).n_found) * factor) + 7
    results = {}
    for device in ("cpu", "cuda"):
        x = on(device, rows, SPLATS)
        lists = lists_of({k: v.detach() for k, v in x.items()}, max_isects=capacity)
        renders, alphas = composite(x, 64, 16, lists)
        (renders.square().sum() + alphas.sum()).backward()
        results[device] = lists, [renders, x["means2d"].grad, x["colors"].grad]
    for got, want in zip(results["cuda"][0], results["cpu"][0]):
        assert torch.equal(got.cpu(), want)
    for got, want in zip(results["cuda"][1], results["cpu"][1]):
        assert relative(got, want) < 1e-3


def test_lists_that_are_cut_render_finite_images():
    rows = projected()
    found = int(lists_of(rows).n_found)
    moved = on("cuda", rows)
    lists = lists_of(moved, max_isects=found // 3)
    renders, alphas = composite(moved, 64, 16, lists)
    assert int(lists.n_found) == found
    assert renders.isfinite().all() and alphas.isfinite().all() and bool(alphas.any())


def test_a_render_of_fixed_capacity_never_waits():
    x = on("cuda", scene(), (*GEOMETRY, "opacities", "colors"))
    tiles = -(-WIDTH // 16), -(-HEIGHT // 16)
    torch.cuda.set_sync_debug_mode("error")
    try:
        radii, means2d, depths, conics, _ = ops.fully_fused_projection(
            x["means"], None, x["quats"], x["scales"], x["viewmats"], x["Ks"], WIDTH, HEIGHT,
            calc_compensations=True,
        )  # fmt: skip
        colors = ops.spherical_harmonics(0, x["means"], x["viewmats"], x["colors"][:, None])
        opacities = x["opacities"].expand(2, -1)
        lists = ops.functional.intersection.tile_lists(
            means2d, radii, depths, 16, *tiles, conics=conics, opacities=opacities, max_isects=4000
        )
        renders, alphas = ops.rasterize_to_pixels(
            means2d, conics, colors, opacities, WIDTH, HEIGHT, 16, lists.isect_offsets,
            lists.flatten_ids,
        )  # fmt: skip
        images = renders.permute(0, 3, 1, 2)
        ssim = ops.fused_ssim(images, torch.zeros_like(images))
        (renders.square().mean() + alphas.mean() + ssim).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert float(x["means"].grad.abs().sum()) > 0


def test_colors_that_are_not_aligned_and_lie_apart():
    rows = projected(channels=20)
    lists, results = lists_of(rows), {}
    for device in ("cpu", "cuda"):
        x = on(device, rows)
        shifted = torch.cat([torch.zeros(1, device=device), x["colors"].flatten()])[1:]
        colors = shifted.view(300, 20).detach().requires_grad_()
        renders, _ = composite({**x, "colors": colors}, 64, 16, lists)
        renders.square().sum().backward()
        results[device] = renders, colors.grad
    for got, want in zip(results["cuda"], results["cpu"]):
        assert relative(got, want) < 1e-3
