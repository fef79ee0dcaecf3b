"""Voxels around a vehicle that its sensors see, by exact rays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mmcity.toytown.sensors.renderer import Renderer
from mmcity.toytown.sensors.rigs import RigCamera
from mmcity.toytown.truth.occupancy import Grid

#: Where rays aim in a voxel whose centre is not seen, in voxels from the centre.
_SHIFTS = np.array(
    [(x, y, z) for x in (-0.4, 0.4) for y in (-0.4, 0.4) for z in (-0.4, 0.4)], dtype=np.float32
)


@dataclass
class Viewpoint:
    """Rays from one sensor to the voxel centres in its field of view, in the grid's frame.

    They do not change while the vehicle moves, so they are made once.

    Attributes:
        origin: (3,) metres.
        index: (V,) flat voxel index.
        directions: (V, 3) unit, float32.
        entry: (V,) distance at which a ray enters its voxel.
    """

    origin: np.ndarray
    index: np.ndarray
    directions: np.ndarray
    entry: np.ndarray


def _aim(
    points: np.ndarray, centers: np.ndarray, origin: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions to points (V, 3) and where the rays enter the voxels round centers."""
    ray = points - origin
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = ((centers + sign * size / 2 - origin) / ray for sign in (-1, 1))
    near = np.nan_to_num(np.minimum(a, b), nan=-np.inf).max(1)
    return ray, np.maximum(near, 0)


def _centers(grid: Grid, index: np.ndarray) -> np.ndarray:
    cells = np.stack(np.unravel_index(index, grid.shape), axis=1).astype(np.float32)
    size = np.asarray(grid.voxel_size, dtype=np.float32)
    return np.asarray(grid.low, dtype=np.float32) + (cells + 0.5) * size


def _viewpoint(grid: Grid, origin: np.ndarray, sees: Callable) -> Viewpoint:
    index = np.arange(int(np.prod(grid.shape)))
    centers = _centers(grid, index)
    origin = np.asarray(origin, dtype=np.float32)
    kept = sees(centers - origin)
    size = np.asarray(grid.voxel_size, dtype=np.float32)
    directions, entry = _aim(centers[kept], centers[kept], origin, size)
    return Viewpoint(origin, index[kept], directions, entry)


def camera_viewpoint(grid: Grid, camera: RigCamera) -> Viewpoint:
    """Viewpoint of a camera; the grid lies in the ego frame."""
    rotation = camera.cam_to_ego[:3, :3].astype(np.float32)
    K = camera.K.astype(np.float32)

    def sees(rays: np.ndarray) -> np.ndarray:
        local = rays @ rotation
        z = np.maximum(local[:, 2], 1e-6)
        u = K[0, 0] * local[:, 0] / z + K[0, 2]
        v = K[1, 1] * local[:, 1] / z + K[1, 2]
        inside = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
        return inside & (local[:, 2] > 0.1)

    return _viewpoint(grid, camera.cam_to_ego[:3, 3], sees)


def lidar_viewpoint(
    grid: Grid, origin: Sequence[float], elevation: tuple[float, float]
) -> Viewpoint:
    """Viewpoint of a lidar that sees all round between two elevations in degrees."""
    low, high = np.tan(np.radians(elevation))

    def sees(rays: np.ndarray) -> np.ndarray:
        slope = rays[:, 2] / np.maximum(np.hypot(rays[:, 0], rays[:, 1]), 1e-6)
        return (slope >= low) & (slope <= high)

    return _viewpoint(grid, np.asarray(origin), sees)


def visible_voxels(
    renderer: Renderer, grid: Grid, is_occupied: np.ndarray, viewpoints: Sequence[Viewpoint]
) -> np.ndarray:
    """Voxels that some ray of the viewpoints enters before it is stopped.

    Every voxel in view is aimed at through its centre. Surface voxels that stay hidden so (the
    surface may lie before or behind the centre) are aimed at through eight more points.

    Args:
        renderer: Holds the scene at this moment.
        grid: The grid.
        is_occupied: ``grid.shape`` bool.
        viewpoints: Sensors, for the same grid and any pose of it.

    Returns:
        np.ndarray: ``grid.shape`` bool.
    """
    rotation = np.asarray(grid.grid_to_world[:3, :3], dtype=np.float32)
    position = np.asarray(grid.grid_to_world[:3, 3])
    seen = np.zeros(int(np.prod(grid.shape)), dtype=bool)

    def is_reached(origin: np.ndarray, directions: np.ndarray, entry: np.ndarray) -> np.ndarray:
        start = (rotation @ origin + position).astype(np.float32)
        return ~renderer.is_blocked(start, directions @ rotation.T, entry - 1e-3)

    surface = _surface(is_occupied).ravel()
    # What lies wholly inside a solid thing cannot be seen.
    inner = is_occupied.ravel() & ~surface
    size = np.asarray(grid.voxel_size, dtype=np.float32)
    for view in viewpoints:
        todo = ~(seen | inner)[view.index]
        index = view.index[todo]
        seen[index] = is_reached(view.origin, view.directions[todo], view.entry[todo])
        hidden = index[surface[index] & ~seen[index]]
        for shift in _SHIFTS:
            if not len(hidden):
                break
            centers = _centers(grid, hidden)
            rays, entry = _aim(centers + shift * size, centers, view.origin, size)
            seen[hidden] = is_reached(view.origin, rays, entry)
            hidden = hidden[~seen[hidden]]
    return seen.reshape(grid.shape)


def mark_hits(
    seen: np.ndarray,
    grid: Grid,
    is_occupied: np.ndarray,
    points: np.ndarray,
    sensor_to_ego: np.ndarray,
) -> None:
    """Add the occupied voxels in which a sensor's own measurements lie, in place.

    Args:
        seen: ``grid.shape``, becomes 1 (or True) there.
        grid: The grid; its frame is the ego frame.
        is_occupied: ``grid.shape`` bool.
        points: (N, 3) in the sensor's frame.
        sensor_to_ego: (4, 4).
    """
    local = points @ sensor_to_ego[:3, :3].T + sensor_to_ego[:3, 3]
    cells = np.floor((local - np.asarray(grid.low)) / np.asarray(grid.voxel_size)).astype(int)
    cells = tuple(cells[((cells >= 0) & (cells < grid.shape)).all(1)].T)
    seen[cells] |= is_occupied[cells]


def _surface(is_occupied: np.ndarray) -> np.ndarray:
    """Occupied voxels with a free one beside them, or at the border of the grid."""
    inner = np.zeros_like(is_occupied)
    core = is_occupied[1:-1, 1:-1, 1:-1].copy()
    for axis in range(3):
        for step in (slice(None, -2), slice(2, None)):
            window = [slice(1, -1)] * 3
            window[axis] = step
            core &= is_occupied[tuple(window)]
    inner[1:-1, 1:-1, 1:-1] = core
    return is_occupied & ~inner
