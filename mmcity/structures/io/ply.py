"""Vertex tables of PLY files, checked before anything is allocated."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mmcity.utils.fileio import atomic_path

#: What plyfile and numpy raise on broken files, besides ``PlyParseError``.
_ERRORS = (
    *(ValueError, KeyError, TypeError, IndexError, OverflowError),
    *(MemoryError, EOFError, StopIteration, UnicodeError),
)


class PlyFormatError(ValueError):
    """A PLY file that is broken, or that lacks what was asked for."""


def read_ply_vertices(path: str | os.PathLike, required: Iterable[str]) -> dict[str, np.ndarray]:
    """Columns of the element ``vertex`` by property name, in file order.

    Args:
        path: ASCII or binary PLY.
        required (Iterable[str]): Properties that must be there.

    Raises:
        FileNotFoundError: If there is no such file.
        PlyFormatError: If the file is broken, or a property is missing or a list.
    """
    from plyfile import PlyData, PlyParseError

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a PLY file, found no such file")
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(1 << 16)
    if not head.startswith(b"ply"):
        raise PlyFormatError(f"{path}: expected a PLY file, got one that begins with {head[:8]!r}")
    for name, count in re.findall(rb"element\s+(\S+)\s+(\d+)", head.split(b"end_header")[0]):
        if int(count) > size:
            raise PlyFormatError(
                f"{path}: expected at most {size} elements in {size} bytes, got {int(count)} of "
                f"{name.decode(errors='replace')} (truncated or corrupt)"
            )
    try:
        vertex = PlyData.read(str(path))["vertex"]
        columns = {prop.name: np.asarray(vertex[prop.name]) for prop in vertex.properties}
    except (PlyParseError, *_ERRORS) as error:
        raise PlyFormatError(
            f"{path}: expected a readable PLY file, got {type(error).__name__}: {error}"
        ) from error
    missing = [name for name in required if name not in columns]
    if missing:
        raise PlyFormatError(
            f"{path}: expected the vertex properties {missing}, got {list(columns)[:20]}"
        )
    lists = [name for name, values in columns.items() if values.dtype == object]
    if lists:
        raise PlyFormatError(f"{path}: expected numbers per vertex, got lists in {lists}")
    return columns


def write_ply_vertices(path: str | os.PathLike, columns: dict[str, np.ndarray]) -> None:
    """Write columns as the element ``vertex`` (binary, little-endian; dtypes are kept).

    Args:
        path: Moved into place when whole.
        columns (dict[str, np.ndarray]): ``(N,)`` each.
    """
    from plyfile import PlyData, PlyElement

    count = len(next(iter(columns.values())))
    rows = np.empty(count, dtype=[(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    with atomic_path(path) as temporary:
        PlyData([PlyElement.describe(rows, "vertex")], byte_order="<").write(str(temporary))
