"""Occupancy drawn with the splat operator, from behind the car, at an angle and from above."""

from collections.abc import Sequence

import numpy as np
import torch

from mmcity.structures import VoxelGrid
from mmcity.structures.geometry import look_at
from mmcity.structures.palettes import UNIFIED_PALETTE
from mmcity_ops import rasterization

#: Standard deviation of a voxel's Gaussian, in voxels: neighbours close the gaps.
_SIGMA = 0.48
#: The bird's-eye camera stands this many grid lengths above, so that columns look upright.
_FAR = 40.0

#: Matrix ``(4, 4)`` to the camera's frame and intrinsics ``(3, 3)``.
Camera = tuple[np.ndarray, np.ndarray]


def surface_voxels(voxels: np.ndarray, free_class: int = 0) -> np.ndarray:
    """Indices ``(N, 3)`` of occupied voxels of ``(X, Y, Z)`` with a free neighbour."""
    occupied = np.pad(voxels != free_class, 1)
    inner = occupied[1:-1, 1:-1, 1:-1].copy()
    for axis in range(3):
        for step in (-1, 1):
            inner &= np.roll(occupied, step, axis)[1:-1, 1:-1, 1:-1]
    return np.argwhere((voxels != free_class) & ~inner)


def _camera(eye, target, up, focal: float, size: tuple[int, int]) -> Camera:
    viewmat = look_at(*(torch.as_tensor(v, dtype=torch.float64) for v in (eye, target, up)))
    K = np.array([[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1.0]])
    return viewmat.numpy(), K


def chase_camera(
    size: tuple[int, int], distance: float = 34.0, height: float = 24.0, fov: float = 62.0
) -> Camera:
    """A camera behind and above the car that looks at the road ahead.

    Args:
        size: Height and width in pixels.
        distance: Metres behind. Defaults to 34.
        height: Metres above the ground. Defaults to 24.
        fov: Horizontal field of view in degrees. Defaults to 62.

    Returns:
        ``(4, 4)`` ego to camera and ``(3, 3)`` intrinsics.
    """
    focal = 0.5 * size[1] / np.tan(np.radians(fov) / 2)
    return _camera((-distance, 0.0, height), (8.0, 0.0, 0.0), (0.0, 0.0, 1.0), focal, size)


def grid_camera(grid: VoxelGrid, view: str, size: tuple[int, int]) -> Camera:
    """A camera that sees a whole grid; x forward, y left, z up.

    Args:
        grid: The grid.
        view: ``oblique`` (perspective from behind and above) or ``birds_eye`` (x up).
        size: Height and width in pixels.

    Returns:
        ``(4, 4)`` from the frame of the grid to the camera and ``(3, 3)`` intrinsics.

    Raises:
        ValueError: If the view is unknown.
    """
    extent = grid.extent.double().cpu().numpy()
    center, (depth, breadth, _) = extent.mean(0), extent[1] - extent[0]
    span = max(depth, breadth)
    height, width = size
    if view == "birds_eye":
        eye = center + np.array([0.0, 0.0, _FAR * span])
        focal = 0.96 * _FAR * min(width / breadth, height / depth) * span
        return _camera(eye, center, (1.0, 0.0, 0.0), focal, size)
    if view == "oblique":
        eye = center + span * np.array([-1.15, 0.5, 0.95])
        return _camera(eye, center, (0.0, 0.0, 1.0), 1.02 * min(width, 1.5 * height), size)
    raise ValueError(f"view: expected 'oblique' or 'birds_eye', got {view!r}")


def splat_occupancy(
    grid: VoxelGrid,
    camera: Camera,
    palette: Sequence[Sequence[int]] = UNIFIED_PALETTE,
    size: tuple[int, int] = (320, 480),
) -> np.ndarray:
    """Occupied voxels as small solid Gaussians, seen by a camera.

    Args:
        grid: A single one with labels; x forward, y left, z up.
        camera: Matrix from the frame of the grid and intrinsics, such as :func:`chase_camera`
            (a grid about the car) and :func:`grid_camera` give.
        palette: RGB per label. Defaults to the unified classes'.
        size: Height and width of the picture. Defaults to (320, 480).

    Returns:
        uint8 ``(H, W, 3)`` on white.
    """
    grid = grid.cpu()
    labels = grid.labels.numpy()
    cells = surface_voxels(labels, grid.free_label)
    if not len(cells):
        return np.full((*size, 3), 255, dtype=np.uint8)
    color = np.asarray(palette, dtype=np.float32)[labels[tuple(cells.T)]] / 255
    # Higher is brighter, what lies under something is in the shade, and every second voxel is
    # a little darker, so that shapes show.
    light = 0.68 + 0.32 * cells[:, 2] / max(labels.shape[2] - 1, 1)
    occupied = np.pad(labels != grid.free_label, ((0, 0), (0, 0), (0, 1)))
    is_covered = occupied[cells[:, 0], cells[:, 1], cells[:, 2] + 1]
    light = light * np.where(is_covered, 0.8, 1.0) * np.where(cells.sum(1) % 2, 0.94, 1.0)
    means = grid.index_to_world(torch.from_numpy(cells)).float()
    quats = torch.tensor([1.0, 0, 0, 0]).expand(len(means), 4).contiguous()
    viewmat, K = (torch.from_numpy(matrix).float() for matrix in camera)
    image, _, _ = rasterization(
        means,
        quats,
        (_SIGMA * grid.voxel_size).float().expand(len(means), 3).contiguous(),
        torch.full((len(means),), 0.99),
        torch.from_numpy(color * light[:, None]).float(),
        viewmat[None],
        K[None],
        width=size[1],
        height=size[0],
        backgrounds=torch.ones(1, 3),
        eps2d=0.05,
    )
    return (image[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
