"""Files of Gaussians of any format: the table of formats, and one function to read and to write.

A reader is chosen by what the file holds, and by its name where that does not tell; a writer by
the name.
"""

import os
from pathlib import Path
from typing import Any

from mmcity.structures.gaussians import Gaussians
from mmcity.structures.splat_info import SplatInfo

from .gaussian_format import HEAD_BYTES, GaussianFileError, GaussianFormat, in_axes, write_as
from .gaussians_compressed_ply import COMPRESSED_PLY
from .gaussians_gltf import GLB, GLTF
from .gaussians_ksplat import KSPLAT
from .gaussians_ply import PLY, SPLAT
from .gaussians_sog import SOG
from .gaussians_spz import SPZ
from .gaussians_usd import USD
from .streamed_sog import STREAMED_SOG

#: Formats in the order in which a file is tried for them.
FORMATS: tuple[GaussianFormat, ...] = (
    *(PLY, COMPRESSED_PLY, SPLAT, KSPLAT),
    *(SPZ, STREAMED_SOG, SOG, GLB, GLTF, USD),
)
#: Ends of names of files of Gaussians.
GAUSSIAN_SUFFIXES = tuple(
    suffix for entry in FORMATS for suffix in entry.suffixes if suffix.startswith(".")
)
#: The same, of those that can be written.
WRITABLE_SUFFIXES = tuple(
    suffix
    for entry in FORMATS
    if entry.write is not None
    for suffix in entry.suffixes
    if suffix.startswith(".")
)
#: Files that make a folder one of Gaussians.
_INDEX_FILES = tuple(
    suffix for entry in FORMATS for suffix in entry.suffixes if not suffix.startswith(".")
)


def find_format(path: str | os.PathLike, write: bool = False) -> GaussianFormat | None:
    """The format of a file of Gaussians, None where it is of no known one.

    Args:
        path: The file; it need not be there.
        write: Go by the name alone, among formats that can be written. Defaults to False.
    """
    path = Path(path)
    told = None if write or not path.is_file() else sniff_format(path)
    if told is not None:
        return told
    name, found = path.name.lower(), {}
    for entry in FORMATS:
        if (entry.write if write else entry.read) is not None:
            for suffix in entry.suffixes:
                if name == suffix or suffix.startswith(".") and name.endswith(suffix):
                    found[len(suffix)] = entry
    return found[max(found)] if found else None


def sniff_format(path: str | os.PathLike) -> GaussianFormat | None:
    """The format of a file of Gaussians by what it holds, None where that does not tell."""
    path = Path(path)
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    for entry in FORMATS:
        if entry.sniff is not None and entry.sniff(path, head):
            return entry
    return None


def find_gaussian_file(path: str | os.PathLike) -> Path | None:
    """The file itself, or that of a folder which makes it one of Gaussians; None without one."""
    path = Path(path)
    if path.is_dir():
        return next((path / name for name in _INDEX_FILES if (path / name).is_file()), None)
    return path if path.is_file() else None


def read_gaussian_file(
    path: str | os.PathLike,
    *,
    to: str | None = None,
    assume: str | None = None,
    lod: int | str = 0,
    drop_invalid: bool = False,
) -> tuple[Gaussians, SplatInfo]:
    """Read Gaussians of any format, and what the file says besides.

    Args:
        path: File of one of ``GAUSSIAN_SUFFIXES``, or a folder that holds one with an index.
        to: Axes to return, a name of :data:`~mmcity.structures.axes.AXES`. Defaults to None: the
            file's own, but a left-handed scene is turned to its right-handed twin.
        assume: Axes of a file that does not say them; ``RUB`` for SPZ files of earlier versions of
            this toolbox. Defaults to None: not known.
        lod: Level of detail, 0 is the finest, of a file that holds several;
            ``all`` gives a :class:`~mmcity.structures.GaussianLodTree` in place of Gaussians.
            Defaults to 0.
        drop_invalid: Leave out Gaussians with NaN or infinity, with a warning that counts them.
            Defaults to False: they are an error.

    Raises:
        FileNotFoundError: If there is no such file.
        GaussianFileError: If it is broken, or of another kind.
        ValueError: If its axes are not known, and others are wanted.
    """
    file = find_gaussian_file(path)
    if file is None:
        raise FileNotFoundError(f"{path}: expected a file of Gaussians, found no such file")
    entry = find_format(file)
    if entry is None or entry.read is None:
        raise GaussianFileError(
            f"{path}: expected a name that ends in {', '.join(GAUSSIAN_SUFFIXES)}"
        )
    options: dict[str, Any] = {}
    if entry.has_levels:
        options = dict(lod=lod)
    elif lod != 0:
        raise GaussianFileError(f"{path}: expected level of detail 0 of {entry.name}, got {lod}")
    gaussians, info = entry.read(file, drop_invalid=drop_invalid, **options)
    return in_axes(gaussians, info, path, to, assume)


def read_gaussians(
    path: str | os.PathLike, drop_invalid: bool = False, **options: Any
) -> Gaussians:
    """Read Gaussians of any format; arguments as in :func:`read_gaussian_file`."""
    return read_gaussian_file(path, drop_invalid=drop_invalid, **options)[0]


def write_gaussians(
    gaussians: Gaussians,
    path: str | os.PathLike,
    *,
    info: SplatInfo | None = None,
    **options: Any,
) -> SplatInfo:
    """Write Gaussians in the format that the name chooses, whole or not at all.

    Args:
        gaussians: With SH, or three features as colour.
        path: Ends in one of ``WRITABLE_SUFFIXES``.
        info: What is known of the scene, such as the renderer it was trained with. Defaults to
            None.
        **options: Of the writer of that format.

    Returns:
        SplatInfo: What the file says, and what it had to lose.

    Raises:
        GaussianFileError: On another suffix.
        ValueError: If the format cannot hold the scene, or has no such option.
    """
    entry = find_format(path, write=True)
    if entry is None:
        raise GaussianFileError(
            f"{path}: expected a name that ends in {', '.join(WRITABLE_SUFFIXES)}"
        )
    return write_as(entry, gaussians, Path(path), info=info, **options)
