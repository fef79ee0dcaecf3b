"""A partition of the tiles over ranks renders the same image and gradients as one rank."""

import pytest
import torch

from mmcity_ops import TilePartition, blocks_to_images, rasterize_tiles, tile_costs, tile_lists

from .test_rasterize import make_scene, render

BACKENDS = ["native", "reference"]


def costs_of(scene):
    rows, radii, depths, width, height = scene
    lists = tile_lists(rows[0], radii, depths, 16, 4, 3, conics=rows[1], opacities=rows[3])
    return tile_costs(lists.isect_offsets, len(lists.flatten_ids))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["blocks", "dense"])
@pytest.mark.parametrize("n_parts", [1, 3])
def test_sum_over_ranks_equals_the_whole(n_parts, layout, backend, monkeypatch):
    monkeypatch.setenv("MMCITY_OPS_BACKEND", backend)
    scene = make_scene()
    rows, radii, depths, width, height = scene
    backgrounds = torch.rand(2, 3, dtype=torch.float64)
    whole = render(*scene, backgrounds=backgrounds)
    leaves = [row.detach().clone().requires_grad_() for row in rows]
    images, alphas = 0, 0
    for partition in TilePartition.split(costs_of(scene), n_parts):
        part, part_alphas, meta = rasterize_tiles(
            *leaves, depths, radii, width, height, 16, partition, backgrounds=backgrounds,
            layout=layout,
        )  # fmt: skip
        if layout == "blocks":
            assert part.shape == (len(meta["tile_ids"]), 16, 16, 3)
            assert (part[~meta["pixel_mask"]] == 0).all()
            part = blocks_to_images(part, meta["tile_ids"], 2, width, height)
            part_alphas = blocks_to_images(part_alphas, meta["tile_ids"], 2, width, height)
        else:
            assert (part[~meta["pixel_mask"]] == 0).all()
        images, alphas = images + part, alphas + part_alphas
    torch.testing.assert_close(images, whole[0], rtol=0, atol=1e-12)
    g = torch.Generator().manual_seed(7)
    v = torch.rand(images.shape, generator=g, dtype=torch.float64)
    va = torch.rand(alphas.shape, generator=g, dtype=torch.float64)
    torch.autograd.backward([images, alphas], [v, va])
    for leaf, want in zip(leaves, whole[2]):
        torch.testing.assert_close(leaf.grad, want.grad, rtol=1e-9, atol=1e-11)


def test_extra_channels_have_background_zero():
    rows, radii, depths, width, height = make_scene()
    everything = TilePartition(torch.ones(2, 3, 4, dtype=torch.bool))
    extras = depths[..., None]
    images, alphas, _ = rasterize_tiles(
        *rows, depths, radii, width, height, 16, everything, extras=extras,
        backgrounds=torch.ones(2, 3, dtype=torch.float64), layout="dense",
    )  # fmt: skip
    plain = render(rows, radii, depths, width, height)
    torch.testing.assert_close(images[..., :3], plain[0].detach() + 1 - alphas)
    assert images.shape[-1] == 4 and (images[..., 3:] <= depths.max() * alphas + 1e-9).all()


def test_shares_are_contiguous_disjoint_and_balanced():
    costs = torch.randint(0, 100, (2, 9, 11), generator=torch.Generator().manual_seed(1))
    shares = TilePartition.split(costs, 4)
    owner = torch.stack([share.mask.flatten() for share in shares]).int()
    assert (owner.sum(0) == 1).all()
    assert (owner.argmax(0).diff() >= 0).all()
    loads = (owner * costs.flatten()).sum(1).float()
    assert loads.max() - loads.mean() <= costs.max()
    assert torch.equal(TilePartition.split(torch.zeros(1, 2, 4), 2)[0].tile_ids, torch.arange(4))


def test_ranges_name_tiles_in_raster_order():
    partition = TilePartition.from_ranges([(1, 3), (7, 8)], 2, 3, 2)
    assert partition.tile_ids.tolist() == [1, 2, 7]
    assert partition.mask[1, 0].tolist() == [False, True, False]
    with pytest.raises(ValueError, match="ranges"):
        TilePartition.from_ranges([(0, 13)], 2, 3, 2)


def test_a_partition_of_another_image_is_refused():
    rows, radii, depths, width, height = make_scene()
    with pytest.raises(ValueError, match=r"partition.mask: expected \[C, 3, 4\]"):
        rasterize_tiles(
            *rows, depths, radii, width, height, 16, TilePartition(torch.ones(2, 2, 2) > 0)
        )
