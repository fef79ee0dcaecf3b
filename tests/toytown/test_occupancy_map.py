"""The voxeliser of drives against the exact one, and its parts against closed forms."""

import numpy as np
import pytest

from mmcity.toytown import WorldClass
from mmcity.toytown.motion.traffic import STEP
from mmcity.toytown.sensors.lidar import lidar_directions
from mmcity.toytown.truth.drives import (
    CARLASC_GRID,
    SENSOR_HEIGHT,
    Drive,
    count_observations,
    record_frame,
)
from mmcity.toytown.truth.occupancy import Grid, surface_shares, voxelize
from mmcity.toytown.truth.occupancy_map import OccupancyMap, sample_triangles

FRAME = 7


@pytest.fixture(scope="module")
def drive(tiny_config):
    return Drive(tiny_config, 1.0)


@pytest.fixture(scope="module")
def grid(drive):
    layout = CARLASC_GRID
    pose = drive.pose(FRAME * STEP, layout.origin_height)
    return Grid(pose, layout.low, layout.voxel_size, (128, 128, 8))


@pytest.fixture(scope="module")
def bodies(drive):
    return drive.traffic.bodies(FRAME * STEP)


@pytest.fixture(scope="module")
def both(drive, grid, bodies):
    fast = drive.occupancy(CARLASC_GRID.voxel_size).voxelize(grid, bodies)
    return fast, voxelize(drive.renderer, grid, bodies)


def test_samples_share_out_the_area_inside_the_box():
    rng = np.random.default_rng(0)
    triangles = rng.uniform(-2, 22, (400, 3, 3))
    size = np.array([20.0, 20.0, 20.0])
    # Triangles that lie wholly inside keep their area, however they are subdivided.
    whole = ((triangles >= 0) & (triangles < size)).all((1, 2))
    points, source, area = sample_triangles(triangles, size, 0.25)
    total = np.bincount(source, area, minlength=400)
    a, b, c = triangles.transpose(1, 0, 2)
    exact = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    assert whole.sum() > 20
    np.testing.assert_allclose(total[whole], exact[whole], rtol=1e-9)
    assert (points >= 0).all() and (points < size).all()
    # On the plane of their triangle.
    normal = np.cross(b - a, c - a) / (2 * exact[:, None])
    assert np.abs(((points - a[source]) * normal[source]).sum(1)).max() < 1e-9


def test_it_agrees_with_the_exact_voxeliser(both):
    fast, exact = both
    occupied = np.logical_and(fast > 0, exact > 0).sum() / np.logical_or(fast > 0, exact > 0).sum()
    assert occupied > 0.985
    assert (fast == exact).mean() > 0.993
    for cls in (WorldClass.BUILDING, WorldClass.TERRAIN, WorldClass.CAR):
        a, b = fast == cls, exact == cls
        if b.sum() > 100:
            assert (a & b).sum() / (a | b).sum() > 0.95, cls


def test_what_it_misses_is_barely_touched(drive, grid, bodies, both):
    fast, exact = both
    meshes = [(drive.renderer.world.mesh, np.eye(4)), *((b.mesh, b.pose) for b in bodies)]
    voxel, _, area = surface_shares(meshes, grid)
    touched = np.bincount(voxel, area, minlength=fast.size)
    missed = ((fast == 0) & (exact > 0)).reshape(-1) & (touched > 0)
    # A strip of half the spacing of the samples, a tenth of a voxel, may lie on two walls.
    assert np.quantile(touched[missed], 0.9) < 0.1 and touched[missed].max() < 0.3
    assert missed.sum() < 0.01 * (exact > 0).sum()


def test_other_voxel_sizes_and_leaning_grids_are_refused(drive, grid):
    town = OccupancyMap(drive.renderer, CARLASC_GRID.voxel_size)
    with pytest.raises(ValueError, match="voxels of"):
        town.voxelize(Grid(grid.grid_to_world, grid.low, (0.2, 0.2, 0.2), (8, 8, 8)))
    leaning = np.eye(4)
    leaning[1:3, 1:3] = [[0.8, -0.6], [0.6, 0.8]]
    with pytest.raises(ValueError, match="upright"):
        town.voxelize(Grid(leaning, grid.low, grid.voxel_size, (8, 8, 8)))
    with pytest.raises(ValueError, match="as wide as long"):
        OccupancyMap(drive.renderer, (0.4, 0.2, 0.4))


def test_counts_are_those_of_walking_along_every_ray(drive, grid, bodies):
    """Against a walk, ray by ray, in steps of half a voxel."""
    occupancy = drive.occupancy(CARLASC_GRID.voxel_size)
    occupancy.rays.set_bodies(bodies)
    sensor = drive.pose(FRAME * STEP, SENSOR_HEIGHT)
    counts = count_observations(occupancy.rays, grid, sensor)
    drive.renderer.set_bodies(bodies)
    directions = lidar_directions((-25.0, 15.0), 40, 720) @ sensor[:3, :3].T
    origins = np.broadcast_to(sensor[:3, 3], directions.shape)
    hits = drive.renderer.trace(np.ascontiguousarray(origins), directions)
    local = (directions @ grid.grid_to_world[:3, :3], np.zeros(3))[0]
    step, size = min(grid.voxel_size) / 2, np.asarray(grid.voxel_size)
    expected = np.zeros(grid.shape, dtype=np.int64)
    for ray in range(len(local)):
        end = hits.distance[ray] + 1e-3 if hits.found[ray] else 80.0
        along = np.arange(0, end, step)
        along = np.append(along[along < end], end if hits.found[ray] else [])
        cell = np.floor((local[ray] * along[:, None] - grid.low) / size).astype(int)
        cell = cell[((cell >= 0) & (cell < grid.shape)).all(1)]
        is_new = np.append(True, (cell[1:] != cell[:-1]).any(1))[: len(cell)]
        np.add.at(expected, tuple(cell[is_new].T), 1)
    assert expected.sum() > 100_000
    assert (counts == expected).mean() > 0.999
    assert abs(int(counts.sum()) - int(expected.sum())) < 1e-4 * expected.sum()


def test_a_frame_is_the_same_whatever_was_recorded_before(tiny_config, drive):
    first = record_frame(Drive(tiny_config, 1.0), CARLASC_GRID, FRAME)
    for frame in (0, 3):
        record_frame(drive, CARLASC_GRID, frame)
    again = record_frame(drive, CARLASC_GRID, FRAME)
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
