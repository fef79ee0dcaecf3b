"""Boxes about what a scene shows, and what lies out of use."""

import numpy as np
import torch

from mmcity.structures import Gaussians, build_lod_tree, drop_unseen, is_stray, robust_bounds


def scene(means, opacities):
    count = len(means)
    quats = torch.zeros(count, 4)
    quats[:, 0] = 1
    return Gaussians(
        torch.as_tensor(means, dtype=torch.float32),
        quats,
        torch.full((count, 3), 0.1),
        torch.as_tensor(opacities, dtype=torch.float32),
        torch.zeros(count, 1, 3),
    )


def test_equal_weights_give_percentiles_and_a_margin():
    points = np.random.default_rng(0).normal(size=(500, 3))
    low, high = np.percentile(points, [2, 98], axis=0, method="inverted_cdf")
    wanted = np.stack([low - 0.1 * (high - low), high + 0.1 * (high - low)])
    assert np.allclose(robust_bounds(points), wanted)


def test_a_weight_counts_as_so_many_points():
    points = torch.tensor([[0.0, 0, 0], [1, 2, 3], [100, 100, 100]])
    box = robust_bounds(points, torch.tensor([500.0, 500.0, 1e-3]))
    assert torch.allclose(box[1] - box[0], torch.tensor([1.2, 2.4, 3.6]).double())
    assert torch.equal(robust_bounds(points[:2].repeat(500, 1)), box)


def test_nothing_and_not_finite_points_have_a_box():
    unit = torch.tensor([[-1.0] * 3, [1.0] * 3]).double()
    assert torch.equal(robust_bounds(torch.zeros(0, 3)), unit)
    assert torch.equal(robust_bounds(torch.full((4, 3), torch.nan)), unit)
    assert torch.equal(robust_bounds(torch.ones(4, 3), torch.zeros(4)), unit)
    assert torch.equal(robust_bounds(torch.ones(1, 3)), torch.ones(2, 3).double())


def test_strays_are_far_and_nearly_transparent():
    bounds = torch.tensor([[-1.0, -1, -1], [3, 1, 1]])  # half the longest edge: 2, middle at x = 1
    means = torch.tensor([[20.5, 0, 0], [21.5, 0, 0], [21.5, 0, 0], [-18.5, 0, 0], [-19.5, 0, 0]])
    opacities = torch.tensor([0.05, 0.05, 0.5, 0.05, 0.09])
    found = is_stray(means, opacities, bounds, reach=10)
    assert found.tolist() == [False, True, False, False, True]
    means[0, 0] = 19.5
    assert is_stray(means, opacities, bounds).tolist() == [True, True, False, True, True]
    means[0, 0] = 18.5
    assert not is_stray(means, opacities, bounds)[0]


def test_a_third_far_out_neither_widens_the_box_nor_stays():
    generator = torch.Generator().manual_seed(0)
    field = torch.rand(2000, 3, generator=generator) * 2 - 1
    far = torch.randn(1000, 3, generator=generator) * 1e4
    g = scene(torch.cat([field, far]), [0.5] * 1999 + [0.003] + [0.012] * 1000)
    # 1.2 % of the opacity is far out, on both sides.
    assert 1 < float(robust_bounds(g.means, g.opacities).abs().max()) < 1.3
    assert float(robust_bounds(g.means).abs().max()) > 1e3
    assert torch.equal(drop_unseen(g).means, field[:1999])
    assert torch.equal(drop_unseen(g, least_opacity=0).means, field)


def test_cells_are_those_of_the_scene_whatever_lies_far_out():
    generator = torch.Generator().manual_seed(0)
    field = torch.rand(2000, 3, generator=generator) * 2 - 1
    g = scene(
        torch.cat([field, torch.tensor([[1e6, 0, 0], [0, -1e5, 0]])]), [0.5] * 2000 + [0.02] * 2
    )
    tree = build_lod_tree(g, max_per_cell=500)
    assert tree.cells[0].error < 0.06  # an edge of 2.4 over 48
    assert len(tree.gather(tree.leaves)) == len(g)
