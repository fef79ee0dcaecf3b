"""Drives through toy towns on which occupancy is recorded: sensor poses, grids, visibility."""

from dataclasses import dataclass

import numpy as np

from mmcity.toytown.motion.traffic import STEP, Traffic, simulate_traffic
from mmcity.toytown.sensors.lidar import lidar_directions
from mmcity.toytown.sensors.renderer import Renderer
from mmcity.toytown.truth.occupancy import Grid
from mmcity.toytown.truth.occupancy_map import OccupancyMap, TownRays
from mmcity.toytown.world.config import ToytownConfig
from mmcity.toytown.world.taxonomy import label_map
from mmcity.toytown.world.town import build_world

#: Height of the lidar above the ground, metres.
SENSOR_HEIGHT = 1.8


@dataclass(frozen=True)
class GridLayout:
    """Grid of a benchmark, in the frame of the vehicle or its lidar.

    Attributes:
        low: (3,) lower corner in metres.
        voxel_size: (3,) metres.
        shape: Voxels along x, y, z.
        origin_height: Height of the frame's origin above the ground, metres.
        labels: Name of the label set, see ``taxonomy.label_map``.
        free: Label of empty voxels.
    """

    low: tuple[float, float, float]
    voxel_size: tuple[float, float, float]
    shape: tuple[int, int, int]
    origin_height: float
    labels: str
    free: int


CARLASC_GRID = GridLayout(
    (-25.6, -25.6, -2.0), (0.4, 0.4, 0.375), (128, 128, 8), SENSOR_HEIGHT, "carlasc", 0
)
OCC3D_WAYMO_GRID = GridLayout(
    (-40.0, -40.0, -1.0), (0.4, 0.4, 0.4), (200, 200, 16), 0.0, "occ3d_waymo", 23
)


class Drive:
    """One town, its traffic and the ego vehicle's way through it.

    Args:
        config: World seed fixes the town, sequence seed the traffic.
        duration: Seconds.
    """

    def __init__(self, config: ToytownConfig, duration: float) -> None:
        self.renderer = Renderer(build_world(config))
        self.traffic: Traffic = simulate_traffic(
            self.renderer.world, config, duration, has_ego=True
        )

        self._maps: dict[tuple[float, float, float], OccupancyMap] = {}

    def occupancy(self, voxel_size: tuple[float, float, float]) -> OccupancyMap:
        """The town's occupancy at a voxel size; what it has worked out is kept."""
        if voxel_size not in self._maps:
            self._maps[voxel_size] = OccupancyMap(self.renderer, voxel_size)
        return self._maps[voxel_size]

    def pose(self, time: float, height: float = 0.0) -> np.ndarray:
        """(4, 4) pose of the ego frame, ``height`` metres above the ground."""
        pose = np.array(self.traffic.ego.pose(time), dtype=np.float64)
        pose[:3, 3] += pose[:3, 2] * height
        return pose


def count_observations(rays: TownRays, grid: Grid, sensor: np.ndarray) -> np.ndarray:
    """Counts of the lidar rays from a sensor that end in or pass through each voxel.

    Rays are sampled every half voxel up to their hit, which is counted in its own voxel.

    Args:
        rays: The scene at this moment.
        grid: The grid.
        sensor: (4, 4) pose of the lidar in the world.

    Returns:
        np.ndarray: ``grid.shape`` int64.
    """
    directions = lidar_directions((-25.0, 15.0), beams=40, columns=720) @ sensor[:3, :3].T
    origins = np.broadcast_to(sensor[:3, 3], directions.shape)
    hit = rays.cast(np.ascontiguousarray(origins), directions)[0]
    found = np.isfinite(hit)
    size, low = np.asarray(grid.voxel_size), np.asarray(grid.low)
    world_to_grid = np.linalg.inv(grid.grid_to_world)
    start = world_to_grid[:3, :3] @ sensor[:3, 3] + world_to_grid[:3, 3]
    local = directions @ world_to_grid[:3, :3].T
    # Beyond the far side of the grid nothing is counted.
    with np.errstate(divide="ignore", invalid="ignore"):
        sides = np.stack([(low - start) / local, (low + size * grid.shape - start) / local])
    leave = np.nanmin(np.maximum(*np.nan_to_num(sides, nan=np.inf)), axis=1).clip(min=0.0)
    step = float(size.min()) / 2
    # A hair beyond the surface, so that the hit falls into the voxel behind it.
    last = np.where(found, hit + 1e-3, np.inf)
    number = np.floor(np.minimum(leave, last) / step).astype(np.int64) + 1
    number -= (number - 1) * step >= last
    # One row per sample; the row behind the samples of a ray is its hit.
    rows = np.repeat(np.arange(len(local)), number + 1)
    ends = np.cumsum(number + 1) - 1
    along = step * (np.arange(len(rows)) - np.repeat(ends - number, number + 1))
    along[ends] = np.where(found, last, -1.0)
    cell = np.floor((start + local[rows] * along[:, None] - low) / size).astype(np.int64)
    valid = ((cell >= 0) & (cell < grid.shape)).all(axis=1) & (along >= 0)
    i, j, k = cell.T
    index = np.where(valid, (i * grid.shape[1] + j) * grid.shape[2] + k, -1)
    is_new = valid & np.append(True, (index[1:] != index[:-1]) | (rows[1:] != rows[:-1]))
    counts = np.bincount(index[is_new], minlength=int(np.prod(grid.shape)))
    return counts.reshape(grid.shape)


def record_frame(
    drive: Drive, layout: GridLayout, frame: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and observation counts at a frame of 10 Hz.

    Returns:
        tuple: raw labels of the layout's label set (X, Y, Z) uint8, counts (X, Y, Z) int64,
        and the (4, 4) pose of the grid's frame.
    """
    time = frame * STEP
    pose = drive.pose(time, layout.origin_height)
    grid = Grid(pose, layout.low, layout.voxel_size, layout.shape)
    bodies = drive.traffic.bodies(time, time + STEP)
    occupancy = drive.occupancy(layout.voxel_size)
    classes = occupancy.voxelize(grid, bodies)
    labels = np.asarray(label_map(layout.labels), dtype=np.uint8)[classes]
    labels[classes == 0] = layout.free
    counts = count_observations(occupancy.rays, grid, drive.pose(time, SENSOR_HEIGHT))
    return labels, counts, pose
