"""Order along the curve of Morton."""

import torch

from mmcity.structures.morton import morton_order


def test_eight_corners_follow_the_bits_of_their_axes():
    corners = torch.tensor([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]).float()
    order = morton_order(corners)
    assert corners[order].tolist() == [
        [x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)
    ]  # fmt: skip


def test_a_stray_point_costs_no_order():
    gen = torch.Generator().manual_seed(0)
    points = torch.rand(2000, 3, generator=gen)
    points[17] = 1e7
    order = morton_order(points)
    assert order.sort().values.tolist() == list(range(2000))
    near = points[order][:-1]
    blocks = near[:1792].reshape(7, 256, 3)
    assert (blocks.amax(1) - blocks.amin(1)).prod(1).mean() < 0.4  # 1 where there is no order


def test_equal_points_and_none_end():
    assert morton_order(torch.ones(600, 3)).tolist() == list(range(600))
    assert morton_order(torch.ones(0, 3)).tolist() == []
