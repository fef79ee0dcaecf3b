"""Trees of cells: they cover the scene once, keep moments, and spend a budget where it counts."""

import pytest
import torch

from mmcity.structures import (
    Cameras,
    Gaussians,
    build_lod_tree,
    merge_gaussians,
    select_cells,
)
from mmcity_ops import rasterization


def street(count: int = 6000, seed: int = 0) -> Gaussians:
    """A flat strip, 120 m long, with a colour that changes slowly along it."""
    gen = torch.Generator().manual_seed(seed)
    xyz = torch.rand(count, 3, generator=gen) * torch.tensor([120.0, 20.0, 2.0])
    colors = torch.stack([xyz[:, 0] / 120, xyz[:, 1] / 20, torch.full((count,), 0.3)], -1)
    return Gaussians(
        means=xyz,
        quats=torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        scales=torch.full((count, 3), 0.35),
        opacities=torch.full((count,), 0.8),
        features=colors,
        sh0=((colors - 0.5) / 0.28209479177387814)[:, None],
    )


def test_leaves_hold_the_scene_once():
    scene = street()
    tree = build_lod_tree(scene, max_per_cell=500, merge_resolution=16)
    leaves = tree.gather(tree.leaves)
    assert len(leaves) == len(scene)
    assert torch.equal(leaves.means.unique(dim=0), scene.means.unique(dim=0))
    for cell in tree.cells:
        assert all(tree.cells[child].depth == cell.depth + 1 for child in cell.children)
        assert all(tree.cells[child].error <= cell.error for child in cell.children)
        low, high = cell.box
        assert bool(((cell.gaussians.means >= low) & (cell.gaussians.means <= high)).all())


def test_an_opaque_surface_grows_instead_of_exceeding_one():
    pile = Gaussians(
        means=[[0.0, 0, 0]] * 4,
        quats=[[1.0, 0, 0, 0]] * 4,
        scales=[[1.0, 1, 1]] * 4,
        opacities=[0.5] * 4,
        sh0=[[[0.0, 0, 0]]] * 4,
    )
    merged = merge_gaussians(pile, cube=1.0)
    # 4 x 0.5 = 2 times the surface: opaque, and as much larger as doubles the surface.
    assert float(merged.opacities) > 0.99
    assert torch.allclose(merged.scales.float(), torch.full((1, 3), 2**0.5), atol=1e-4)


def test_merging_two_keeps_mean_and_covariance():
    pair = Gaussians(
        means=[[0.0, 0, 0], [2.0, 0, 0]],
        quats=[[1.0, 0, 0, 0]] * 2,
        scales=[[1.0, 1, 1]] * 2,
        opacities=[0.5, 0.5],
        sh0=[[[0.0, 0, 0]], [[1.0, 1, 1]]],
    )
    merged = merge_gaussians(pair, cube=10.0)
    assert len(merged) == 1
    assert torch.allclose(merged.means.float(), torch.tensor([[1.0, 0, 0]]))
    # The mixture's variance along x is 1 within plus 1 between.
    assert torch.allclose(
        merged.covariances[0].float(), torch.diag(torch.tensor([2.0, 1.0, 1.0])), atol=1e-5
    )
    assert torch.allclose(merged.sh0.float(), torch.full((1, 1, 3), 0.5))
    # Summed opacity times surface, 2 x 0.5 x 3, over that of the merged one, 1 + 2 sqrt(2).
    assert abs(float(merged.opacities) - 3 / (1 + 2 * 2**0.5)) < 1e-5


def test_lone_gaussians_stay_as_they_are():
    scene = street(40)
    merged = merge_gaussians(scene, cube=1e-3)
    assert merged is scene


def test_near_is_fine_and_far_is_coarse():
    tree = build_lod_tree(street(), max_per_cell=500, merge_resolution=16)
    near = select_cells(tree, torch.tensor([0.0, 10, 1]), 300.0, budget=10**6, max_error=4)
    assert any(not tree.cells[n].children for n in near)
    assert any(tree.cells[n].children for n in near)
    nearest = min(near, key=lambda n: float(tree.cells[n].box[0, 0]))
    assert tree.cells[nearest].error == 0
    far = select_cells(tree, torch.tensor([0.0, 0, 1e5]), 300.0, budget=10**6)
    assert far == [0]


@pytest.mark.parametrize("budget", [1500, 3000, 5000])
def test_budget_is_kept_and_the_scene_covered(budget):
    tree = build_lod_tree(street(), max_per_cell=500, merge_resolution=16)
    chosen = select_cells(tree, torch.tensor([0.0, 10, 1]), 1e4, budget, max_error=0.01)
    assert len(tree.gather(chosen)) <= max(budget, len(tree.cells[0].gaussians))

    def leaves_below(number: int) -> list[int]:
        children = tree.cells[number].children
        return [leaf for child in children for leaf in leaves_below(child)] or [number]

    # Each leaf is drawn by exactly one chosen cell: itself or one above it.
    assert sorted(leaf for n in chosen for leaf in leaves_below(n)) == sorted(tree.leaves)


def test_cells_behind_the_camera_stay_coarse():
    tree = build_lod_tree(street(), max_per_cell=500, merge_resolution=16)
    ahead = select_cells(
        tree, torch.tensor([60.0, 10, 1]), 1e3, 10**6, 0.5, torch.tensor([1.0, 0, 0]), 0.6
    )
    behind = [n for n in ahead if float(tree.cells[n].box[1, 0]) < 45]
    before = [n for n in ahead if float(tree.cells[n].box[0, 0]) > 75]
    assert max(tree.cells[n].error for n in before) == 0
    assert min(tree.cells[n].error for n in behind) > 0


def test_coarse_cells_look_like_the_scene_from_afar():
    scene = street()
    tree = build_lod_tree(scene, max_per_cell=500, merge_resolution=24)
    view = torch.eye(4)
    view[:3, :3] = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
    view[:3, 3] = torch.tensor([-60.0, 10.0, 150.0])
    K = torch.tensor([[100.0, 0, 48], [0, 100, 24], [0, 0, 1]])
    camera = Cameras(K[None], view[None], 96, 48)

    def picture(g: Gaussians) -> torch.Tensor:
        colors, alphas, _ = rasterization(
            g.means, g.quats, g.scales, g.opacities, g.features, camera.viewmats, camera.Ks, 96, 48
        )
        return colors[0]

    full, coarse = picture(scene), picture(tree.cells[0].gaussians)
    assert len(tree.cells[0].gaussians) < len(scene) / 4
    assert float(-10 * (full - coarse).square().mean().log10()) > 25
