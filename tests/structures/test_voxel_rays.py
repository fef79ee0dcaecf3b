"""Rays through grids: what they hit and how far it is."""

import math

import pytest
import torch

from mmcity.structures import VoxelGrid, cast_rays


def test_rays_hit_a_wall_at_its_distance():
    labels = torch.full((20, 20, 8), 17)
    labels[15] = 15  # a wall whose near face is at x = 15 * 0.4 m
    grid = VoxelGrid(labels, origin=torch.zeros(3), voxel_size=0.4, free_label=17)
    origin = torch.tensor([[2.0, 4.0, 1.6]])
    directions = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [-1.0, 0.0, 0.0]])
    hits, distance = cast_rays(grid, origin, directions)
    assert hits.tolist() == [[15, 17, 17]]  # the second ray leaves sideways before the wall
    assert distance[0, 0].item() == pytest.approx(4.0, abs=1e-5)
    assert math.isinf(distance[0, 1])


def test_flat_voxels_are_met_where_points_along_the_ray_say():
    """Against stepping along each ray by a millimetre."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(8, 6, 10, generator=generator) < 0.1).long() * 3
    grid = VoxelGrid(labels, origin=[-2.0, 1.0, 0.5], voxel_size=[0.5, 0.8, 0.2])
    origins = grid.extent[0] + torch.tensor([[2.1, 2.5, 1.05]])
    labels[tuple(grid.world_to_index(origins)[0][0])] = 0
    directions = torch.nn.functional.normalize(torch.randn(60, 3, generator=generator), dim=-1)
    hits, distances = cast_rays(grid, origins, directions)
    t = torch.arange(0, 6, 1e-3)[:, None, None]
    cells, inside = grid.world_to_index(origins + t * directions)
    seen = torch.where(
        inside,
        grid.labels[
            tuple(cells.clamp(min=0).where(inside[..., None], torch.zeros_like(cells)).unbind(-1))
        ],
        0,
    )
    found, first = (seen > 0).max(0)
    assert 10 < int(found.sum()) < 60
    assert hits[0].tolist() == torch.where(found, 3, 0).tolist()
    expected = torch.where(found, first * 1e-3, torch.inf)
    torch.testing.assert_close(distances[0], expected, atol=2e-3, rtol=0)


def test_clips_and_densities_are_refused():
    for options in ({"labels": torch.zeros(2, 3, 3, 3).long()}, {"density": torch.zeros(3, 3, 3)}):
        grid = VoxelGrid(**options, origin=torch.zeros(3), voxel_size=1.0)
        with pytest.raises(ValueError, match="grid: expected a single one with labels"):
            cast_rays(grid, torch.ones(1, 3), torch.eye(3))
