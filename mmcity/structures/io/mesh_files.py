"""Meshes and clouds of files, through trimesh."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import trimesh


class MeshFileError(ValueError):
    """A file is no mesh or cloud that can be read; the message names it."""


def read_mesh(path: str | os.PathLike, **options: Any) -> Any:
    """Content of a file, as :func:`trimesh.load` gives it.

    Args:
        path: The file.
        **options: Of :func:`trimesh.load`.

    Raises:
        FileNotFoundError: If there is no such file.
        MeshFileError: If it is broken, or of another kind.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: expected a mesh or points, found no such file")
    try:
        return trimesh.load(Path(path), **options)
    except Exception as error:  # its readers raise whatever a broken file leads them to
        raise MeshFileError(
            f"{path}: expected a mesh or points, got a broken or another file "
            f"({type(error).__name__}: {error}): export it again"
        ) from error


def read_vertices(path: str | os.PathLike, **options: Any) -> np.ndarray:
    """Vertices ``(N, 3)`` float64 of a mesh or cloud.

    Args:
        path: The file.
        **options: Of :func:`trimesh.load`.

    Raises:
        FileNotFoundError, MeshFileError: As :func:`read_mesh`; the latter also if there are none.
    """
    loaded = read_mesh(path, **options)
    if isinstance(loaded, trimesh.Scene):
        loaded = loaded.to_geometry()
    vertices = getattr(loaded, "vertices", ())
    if not len(vertices):
        raise MeshFileError(f"{path}: expected a mesh or points, got none: export it again")
    return np.asarray(vertices, np.float64)
