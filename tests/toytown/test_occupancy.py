"""Voxel grids against closed forms and against rays."""

import numpy as np
import pytest

from mmcity.toytown import WorldClass
from mmcity.toytown.truth.occupancy import Grid, surface_shares, voxelize
from mmcity.toytown.world.materials import Material
from mmcity.toytown.world.meshes import MeshBuilder


def _box(size, center):
    builder = MeshBuilder()
    builder.box(center, size, Material.PLAIN, WorldClass.CAR, yaw=0.3)
    return builder.build()


def test_shares_sum_to_the_area_of_the_surface():
    size = (4.3, 1.7, 1.1)
    mesh = _box(size, (0.13, -0.21, 0.07))
    grid = Grid(np.eye(4), (-4.0, -4.0, -4.0), (0.4, 0.4, 0.4), (20, 20, 20))
    _, cls, area = surface_shares([(mesh, np.eye(4))], grid)
    a, b, c = size
    assert area.sum() * 0.16 == pytest.approx(2 * (a * b + b * c + c * a), rel=1e-9)
    assert set(cls) == {WorldClass.CAR}


def test_a_mesh_beside_the_grid_has_no_shares():
    mesh = _box((1.0, 1.0, 1.0), (9.0, 0.0, 0.0))
    grid = Grid(np.eye(4), (-4.0, -4.0, -4.0), (0.4, 0.4, 0.4), (20, 20, 20))
    voxel, cls, area = surface_shares([(mesh, np.eye(4))], grid)
    assert len(voxel) == len(cls) == len(area) == 0


def test_shares_of_a_random_triangle_match_dense_sampling():
    rng = np.random.default_rng(2)
    corners = rng.uniform(0.2, 5.8, (3, 3))
    builder = MeshBuilder()
    builder.triangles(corners, [[0, 1, 2]], builder.surface(Material.PLAIN, WorldClass.ROAD))
    grid = Grid(np.eye(4), (0, 0, 0), (1, 1, 1), (6, 6, 6))
    voxel, _, area = surface_shares([(builder.build(), np.eye(4))], grid)
    u, v = rng.random((2, 400_000))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    points = corners[0] + u[:, None] * (corners[1] - corners[0])
    points = points + v[:, None] * (corners[2] - corners[0])
    flat = np.ravel_multi_index(tuple(np.floor(points).astype(int).T), (6, 6, 6))
    sampled = np.bincount(flat, minlength=216) / len(flat)
    exact = np.zeros(216)
    exact[voxel] = area / area.sum()
    assert np.abs(sampled - exact).max() < 3e-3
    assert not (sampled > 0)[exact == 0].any()


@pytest.fixture(scope="module")
def grid(tiny_world):
    turn = 0.4
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    pose[:3, 3] = [*tiny_world.plan.blocks[0].polygon.mean(0), 0.0]
    return Grid(pose, (-20.0, -20.0, -1.0), (0.4, 0.4, 0.4), (100, 100, 16))


@pytest.fixture(scope="module")
def labels(tiny_renderer, grid):
    return voxelize(tiny_renderer, grid)


def test_every_hit_lies_in_an_occupied_voxel(tiny_renderer, grid, labels):
    rng = np.random.default_rng(0)
    d = rng.normal(size=(20000, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    free = grid.centers()[labels == 0]
    origins = free[rng.integers(len(free), size=len(d))]
    hits = tiny_renderer.trace(origins, d)
    local = (hits.point - grid.grid_to_world[:3, 3]) @ grid.grid_to_world[:3, :3]
    index = (local - grid.low) / grid.voxel_size
    inside = hits.found & ((index >= 0) & (index < grid.shape)).all(1)
    i, j, k = np.floor(index[inside]).astype(int).T
    assert inside.sum() > 3000
    assert (labels[i, j, k] > 0).mean() > 0.999


def test_buildings_are_solid(labels):
    """From above, a column under a roof is filled down to the ground."""
    is_building = labels == WorldClass.BUILDING
    columns = is_building[:, :, 4:12].all(2)
    assert columns.sum() > 200
    assert is_building.sum() > 5 * columns.sum()


def test_free_space_stays_free(labels):
    assert 0.3 < (labels == 0).mean() < 0.95
    assert len(np.unique(labels)) >= 6
