"""Occupancy around a car over its camera images, and what the colours mean."""

from collections.abc import Sequence

import numpy as np
import torch

from mmcity.structures import VoxelGrid, cast_rays

from .color_maps import colorize_depth

#: Brightness of a voxel's faces across x, y and z.
_FACE_LIGHT = (0.8, 0.65, 1.0)
_PAPER = 255


def overlay_occupancy(
    image: np.ndarray,
    grid: VoxelGrid,
    K: np.ndarray,
    cam_to_grid: np.ndarray,
    palette: Sequence[Sequence[int]],
    strength: float = 0.6,
    stride: int = 2,
) -> np.ndarray:
    """The first occupied voxel along the ray of every pixel, painted over an image.

    Args:
        image: RGB uint8 ``(H, W, 3)``.
        grid: A single one with labels.
        K: ``(3, 3)`` intrinsics of the image.
        cam_to_grid: ``(4, 4)``; the camera lies inside the grid.
        palette: RGB per label.
        strength: Share of the voxels' colour. Defaults to 0.6.
        stride: Pixels per ray. Defaults to 2.

    Returns:
        uint8 ``(H, W, 3)``.
    """
    height, width = image.shape[:2]
    rows, cols = np.mgrid[0:height:stride, 0:width:stride] + stride / 2
    pixels = np.stack([cols, rows, np.ones_like(rows)], axis=-1).reshape(-1, 3)
    rays = pixels @ np.linalg.inv(np.asarray(K, dtype=np.float64)[:3, :3]).T
    pose = np.asarray(cam_to_grid)
    rays = rays @ pose[:3, :3].T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    hit, distance = (
        found[0].numpy()
        for found in cast_rays(
            grid, torch.as_tensor(pose[None, :3, 3], dtype=torch.float32), torch.from_numpy(rays)
        )
    )
    # The face that a ray enters by is the one on which the entry point lies.
    entry = pose[:3, 3] + rays * distance[:, None] - grid.origin.numpy()
    entry /= grid.voxel_size.numpy()
    with np.errstate(invalid="ignore"):
        face = np.abs(entry - np.round(entry)).argmin(-1)
    light = np.asarray(_FACE_LIGHT)[face]
    color = np.asarray(palette, dtype=np.float32)[hit] * light[:, None]
    shown = (hit != grid.free_label).reshape(rows.shape)
    color = color.reshape(*rows.shape, 3).repeat(stride, 0).repeat(stride, 1)[:height, :width]
    shown = shown.repeat(stride, 0).repeat(stride, 1)[:height, :width]
    mixed = (1 - strength) * image + strength * color
    return np.where(shown[..., None], mixed, image).round().astype(np.uint8)


def overlay_points(
    image: np.ndarray,
    points: np.ndarray,
    K: np.ndarray,
    limits: tuple[float, float] = (2.0, 50.0),
    radius: int | None = None,
) -> np.ndarray:
    """Points over an image, coloured by depth; nearer ones lie above.

    Args:
        image: RGB uint8 ``(H, W, 3)``.
        points: ``(N, 3)`` in the camera's frame, metres.
        K: ``(3, 3)`` intrinsics.
        limits: Depths of the ends of the colours. Defaults to (2, 50).
        radius: Half the edge of a mark in pixels. Defaults to 1/500 of the width.

    Returns:
        uint8 ``(H, W, 3)``.
    """
    radius = max(1, round(image.shape[1] / 500)) if radius is None else radius
    points = points[points[:, 2] > 0.5]
    points = points[np.argsort(-points[:, 2])]
    pixels = points @ np.asarray(K)[:3, :3].T
    cols, rows = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).T
    inside = (cols >= 0) & (cols < image.shape[1]) & (rows >= 0) & (rows < image.shape[0])
    cols, rows, depth = cols[inside], rows[inside], points[inside, 2]
    colors = colorize_depth(depth[None].astype(np.float32), limits=limits)[0]
    result = image.copy()
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            y = np.clip(rows + dy, 0, image.shape[0] - 1)
            x = np.clip(cols + dx, 0, image.shape[1] - 1)
            result[y, x] = colors
    return result


def legend(
    names: Sequence[str], palette: Sequence[Sequence[int]], width: int, row_height: int = 20
) -> np.ndarray:
    """Names of classes beside their colours, as many in a row as fit; uint8 ``(H, width, 3)``."""
    import cv2

    cell = 12 + max(9 * len(name) for name in names) + 22
    columns = max(1, width // cell)
    image = np.full((-(-len(names) // columns) * row_height, width, 3), _PAPER, dtype=np.uint8)
    for number, (name, color) in enumerate(zip(names, palette)):
        y, x = number // columns * row_height, number % columns * cell + 4
        image[y + 4 : y + row_height - 4, x : x + 12] = color
        cv2.putText(
            image, name, (x + 17, y + row_height - 6), cv2.FONT_HERSHEY_SIMPLEX, fontScale=0.42,
            color=(40,) * 3, lineType=cv2.LINE_AA,
        )  # fmt: skip
    return image
