"""Voxel grids: cells, points, masks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcity.structures import VoxelGrid


def make_grid():
    labels = torch.zeros(4, 3, 2, dtype=torch.long)
    labels[1, 2, 0], labels[3, 0, 1] = 5, 7
    return VoxelGrid(labels, origin=[-1.0, 0.0, 2.0], voxel_size=0.5)


def test_points_are_the_centres_of_occupied_cells():
    grid = make_grid()
    points = grid.index_to_world(grid.occupied.nonzero())
    assert grid.labels[grid.occupied].tolist() == [5, 7]
    assert points.tolist() == [[-0.25, 1.25, 2.25], [0.75, 0.25, 2.75]]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_index_and_world_are_inverse(seed):
    grid = make_grid()
    size = torch.tensor(grid.shape)
    index = (torch.rand(20, 3, generator=torch.Generator().manual_seed(seed)) * size).long()
    jitter = (torch.rand(20, 3) - 0.5) * 0.49
    cells, inside = grid.world_to_index(grid.index_to_world(index) + jitter)
    assert inside.all() and (cells == index).all()


def test_points_outside_or_not_finite_are_outside():
    nan, inf = float("nan"), float("inf")
    points = torch.tensor([[-1.1, 0, 2], [1.0, 0, 2], [nan, 0, 2], [inf, 0, 2], [-1.0, 0, 2]])
    cells, inside = make_grid().world_to_index(points)
    assert inside.tolist() == [False, False, False, False, True]
    assert cells[0].tolist() == [-1, 0, 0]


def test_majority_label_wins_in_a_cell():
    points = torch.tensor([[0.1, 0.1, 0.1]] * 3 + [[0.9, 0.9, 0.9]] * 2 + [[5.0, 0, 0]])
    labels = torch.tensor([2, 3, 3, 4, 1, 9])
    grid = VoxelGrid.from_points(points, labels, (2, 2, 2), origin=[0.0, 0, 0], voxel_size=0.5)
    assert grid.labels[0, 0, 0] == 3
    assert grid.labels[1, 1, 1] == 1  # one each: the lowest
    assert int(grid.occupied.sum()) == 2


def test_time_steps_and_masks():
    labels = torch.full((2, 3, 3, 3), 17)
    labels[1, 0, 0, 0] = 4
    masks = {"camera": labels == 4}
    grid = VoxelGrid(labels, origin=[0.0, 0, 0], voxel_size=[1, 2, 3], free_label=17, masks=masks)
    assert len(grid) == 2 and grid.shape == (3, 3, 3)
    assert int(grid[1].masks["camera"].sum()) == 1 and int(grid[0].occupied.sum()) == 0
    assert grid.extent.tolist() == [[0, 0, 0], [3, 6, 9]]


def test_density_grids():
    density = torch.zeros(2, 2, 2)
    density[0, 1, 1] = 0.3
    grid = VoxelGrid(density=density, origin=[0.0, 0, 0], voxel_size=1)
    assert grid.index_to_world(grid.occupied.nonzero()).tolist() == [[0.5, 1.5, 1.5]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"voxel_size": 0.0}, "voxel_size"),
        ({"origin": [0.0, 1.0]}, "origin"),
        ({"origin": [float("nan"), 0, 0]}, "origin"),
        ({"masks": {"camera": torch.ones(2, 2, 2)}}, "camera"),
        ({"labels": torch.zeros(4, 3, 2)}, "whole numbers"),
        ({"labels": torch.zeros(4, 3, dtype=torch.long)}, "X, Y, Z"),
    ],
)
def test_refusals_name_the_argument(change, message):
    labels = torch.zeros(4, 3, 2, dtype=torch.long)
    arguments = {"labels": labels, "origin": [0.0, 0, 0], "voxel_size": 1.0, **change}
    with pytest.raises(ValueError, match=message):
        VoxelGrid(**arguments)
