"""Files of Gaussians of any format, chosen by the suffix."""

import os
from pathlib import Path

from mmcity.structures.gaussians import Gaussians

from .gaussians_gltf import read_gaussians_glb, write_gaussians_glb
from .gaussians_ply import (
    GaussianFileError,
    read_gaussians_ply,
    read_splat,
    write_gaussians_ply,
    write_splat,
)
from .gaussians_spz import read_spz, write_spz

#: Files that :func:`read_gaussians` and :func:`write_gaussians` know.
GAUSSIAN_SUFFIXES = (".ply", ".splat", ".spz", ".glb")


def read_gaussians(path: str | os.PathLike, drop_invalid: bool = False) -> Gaussians:
    """Read Gaussians from ``.ply``, ``.splat``, ``.spz`` or ``.glb``.

    Args:
        path: The file.
        drop_invalid: Leave out Gaussians with NaN or infinity, with a warning that counts them.
            Defaults to False: they are an error.

    Raises:
        FileNotFoundError: If there is no such file.
        GaussianFileError: If it is broken, or of another kind.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected a file of Gaussians, found no such file")
    readers = (read_gaussians_ply, read_splat, read_spz, read_gaussians_glb)
    return _by_suffix(path, readers)(path, drop_invalid=drop_invalid)


def write_gaussians(gaussians: Gaussians, path: str | os.PathLike) -> None:
    """Write Gaussians as ``.ply``, ``.splat``, ``.spz`` or ``.glb``, whole or not at all.

    Raises:
        GaussianFileError: On another suffix.
    """
    writers = (write_gaussians_ply, write_splat, write_spz, write_gaussians_glb)
    _by_suffix(path, writers)(gaussians, path)


def _by_suffix(path: str | os.PathLike, functions):
    suffix = Path(path).suffix.lower()
    if suffix not in GAUSSIAN_SUFFIXES:
        raise GaussianFileError(
            f"{path}: expected a name that ends in {', '.join(GAUSSIAN_SUFFIXES)}"
        )
    return functions[GAUSSIAN_SUFFIXES.index(suffix)]
