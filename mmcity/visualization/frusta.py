"""Cameras as pyramids of lines."""

import numpy as np

LINES_PER_CAMERA = 8


def frustum_lines(cam_to_world, Ks, widths, heights, length: float) -> np.ndarray:
    """Edges of camera pyramids.

    Args:
        cam_to_world (np.ndarray): ``(C, 4, 4)``, OpenCV axes.
        Ks (np.ndarray): ``(C, 3, 3)``.
        widths (np.ndarray): ``(C,)`` px.
        heights (np.ndarray): ``(C,)`` px.
        length: Of the pyramids, in world units.

    Returns:
        float64 ``(C * 8, 2, 3)`` segments: per camera four sides, then the rim.
    """
    poses = np.asarray(cam_to_world, np.float64)
    sizes = np.stack([np.asarray(widths), np.asarray(heights)], -1)  # (C, 2)
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    pixels = unit[None] * sizes[:, None]  # (C, 4, 2)
    ones = np.ones((*pixels.shape[:2], 1))
    inverse = np.linalg.inv(np.asarray(Ks, np.float64))
    rays = np.concatenate([pixels, ones], -1) @ inverse.transpose(0, 2, 1)
    apex = poses[:, None, :3, 3]  # (C, 1, 3)
    corners = rays * length @ poses[:, :3, :3].transpose(0, 2, 1) + apex
    sides = np.stack([np.broadcast_to(apex, corners.shape), corners], 2)
    rim = np.stack([corners, np.roll(corners, -1, axis=1)], 2)
    return np.concatenate([sides, rim], 1).reshape(-1, 2, 3)
