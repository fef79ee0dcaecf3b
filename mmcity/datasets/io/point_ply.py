"""Point clouds in PLY files: positions and, where present, colours and normals."""

import os

import numpy as np

from mmcity.structures.io.ply import PlyFormatError, read_ply_vertices, write_ply_vertices
from mmcity.structures.world_offset import world_offset
from mmcity.utils.picture_files import as_eight_bits

from .colmap_types import ColmapPoints

_COLORS = ("red", "green", "blue")


def read_point_ply(path: str | os.PathLike) -> ColmapPoints:
    """Read a point cloud.

    Args:
        path: PLY with vertex properties ``x y z`` and optionally ``red green blue`` of any type
            (see :func:`~mmcity.utils.picture_files.as_eight_bits`).

    Returns:
        ColmapPoints: Without tracks.

    Raises:
        FileNotFoundError: If there is no such file.
        PlyFormatError: If it is broken, or holds points that are not finite or colours of an
            unknown range.
    """
    columns = read_ply_vertices(path, "xyz")
    xyz = np.stack([columns[axis].astype(np.float64) for axis in "xyz"], axis=1)
    if not np.isfinite(xyz).all():
        raise PlyFormatError(f"{path}: expected finite points, got NaN or infinity")
    rgb = None
    if all(name in columns for name in _COLORS):
        rgb = np.stack([columns[name] for name in _COLORS], axis=1)
        try:
            rgb = as_eight_bits(rgb)
        except ValueError as error:
            raise PlyFormatError(f"{path}: colours: {error}") from error
    return ColmapPoints.from_arrays(xyz, rgb)


def write_point_ply(path: str | os.PathLike, xyz, rgb=None, normals=None) -> None:
    """Write a point cloud (binary): ``x y z``, normals and colours where given.

    Args:
        path: Moved into place when whole.
        xyz (np.ndarray): ``(N, 3)``; written in double precision where they lie far from the
            origin (see :func:`~mmcity.structures.world_offset.world_offset`).
        rgb (np.ndarray, optional): ``(N, 3)`` uint8.
        normals (np.ndarray, optional): ``(N, 3)``.
    """
    xyz = np.asarray(xyz)
    is_far = len(xyz) and world_offset(xyz.astype(np.float64), np.zeros((0, 3)))[0].any()
    tables = [
        ("xyz", xyz, "<f8" if is_far else "<f4"),
        (("nx", "ny", "nz"), normals, "<f4"),
        (_COLORS, rgb, "u1"),
    ]
    write_ply_vertices(
        path,
        {
            name: np.asarray(values)[:, column].astype(kind)
            for names, values, kind in tables
            if values is not None
            for column, name in enumerate(names)
        },
    )
