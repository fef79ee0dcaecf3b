"""Exporting coloured point clouds with the cameras that saw them."""

import os

import numpy as np
import trimesh

from mmcity.structures import robust_bounds
from mmcity.structures.io.mesh_files import write_mesh
from mmcity.utils.fileio import atomic_path

from .frusta import frustum_lines

BLACK_SUM = 16  # r + g + b below it counts as black
WHITE_LEVEL = 240  # all channels above it count as white


def select_points(
    confidence: np.ndarray,
    colors: np.ndarray,
    percentile: float | None = 50.0,
    drop_black: bool = False,
    drop_white: bool = False,
    is_sky: np.ndarray | None = None,
) -> np.ndarray:
    """Mask of the points that are worth showing.

    Args:
        confidence: ``(N,)``.
        colors: ``(N, 3)`` uint8.
        percentile: Points at or above this percentile of confidence stay; None means 10.
            Defaults to 50.
        drop_black: Leave out black pixels (background). Defaults to False.
        drop_white: Leave out white pixels. Defaults to False.
        is_sky: ``(N,)`` bool, points to leave out. Defaults to None.

    Returns:
        ``(N,)`` bool.
    """
    if len(confidence) == 0:
        return np.zeros(0, dtype=bool)
    threshold = np.percentile(confidence, 10.0 if percentile is None else percentile)
    kept = confidence >= threshold
    if drop_black:
        kept &= colors.astype(int).sum(-1) >= BLACK_SUM
    if drop_white:
        kept &= ~(colors > WHITE_LEVEL).all(-1)
    if is_sky is not None:
        kept &= ~is_sky
    return kept


def camera_frusta(
    cam_to_world: np.ndarray, Ks: np.ndarray, image_size: tuple[int, int], depth: float
) -> trimesh.path.Path3D:
    """Pyramids of cameras as lines.

    Args:
        cam_to_world: ``(S, 4, 4)``, OpenCV axes.
        Ks: ``(S, 3, 3)``.
        image_size: (height, width) in pixels.
        depth: Length of the pyramids in scene units.
    """
    count = len(cam_to_world)
    height, width = image_size
    lines = frustum_lines(cam_to_world, Ks, [width] * count, [height] * count, depth)
    return trimesh.load_path(lines)


def write_glb(
    path: str | os.PathLike,
    points: np.ndarray,
    colors: np.ndarray,
    cam_to_world: np.ndarray | None = None,
    Ks: np.ndarray | None = None,
    image_size: tuple[int, int] | None = None,
) -> None:
    """Write points, and cameras as pyramids, as binary glTF.

    The pyramids are 5 % of the diagonal of the :func:`~mmcity.structures.robust_bounds` of the
    points.

    Args:
        path: Target.
        points: ``(N, 3)``, at least one.
        colors: ``(N, 3)`` uint8.
        cam_to_world: ``(S, 4, 4)``; none leaves the pyramids out.
        Ks: ``(S, 3, 3)``, needed with ``cam_to_world``.
        image_size: (height, width), needed with ``cam_to_world``.
    """
    if len(points) == 0:
        raise ValueError(f"{path}: expected points, got none: lower the confidence percentile")
    scene = trimesh.Scene([trimesh.PointCloud(points, colors)])
    if cam_to_world is not None:
        low, high = robust_bounds(points)
        length = 0.05 * max(float((high - low).norm()), 1e-6)
        scene.add_geometry(camera_frusta(cam_to_world, Ks, image_size, length))
    with atomic_path(path) as temporary:
        write_mesh(scene, temporary)
