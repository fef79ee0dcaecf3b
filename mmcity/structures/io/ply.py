"""Vertex tables of PLY files, checked before anything is allocated."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from mmcity.structures.scene_frame import FRAME_KEY, SceneFrame
from mmcity.utils.fileio import atomic_path

#: What plyfile and numpy raise on broken files, besides ``PlyParseError``.
_ERRORS = (
    *(ValueError, KeyError, TypeError, IndexError, OverflowError),
    *(MemoryError, EOFError, StopIteration, UnicodeError),
)

#: Lines of a header; more are no header.
_LONGEST_HEADER = 100_000


class PlyFormatError(ValueError):
    """A PLY file that is broken, or that lacks what was asked for."""


def read_ply_elements(path: str | os.PathLike) -> dict[str, dict[str, np.ndarray]]:
    """Columns of all elements by the names of element and property, in file order.

    Raises:
        FileNotFoundError: If there is no such file.
        PlyFormatError: If it is broken.
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
    halves = re.findall(rb"property\s+(float16|half)\s+(\S+)", head.split(b"end_header")[0])
    if halves:
        names = ", ".join(name.decode(errors="replace") for _, name in halves[:4])
        raise PlyFormatError(
            f"{path}: expected the types of PLY, got {halves[0][0].decode()} in {names}: export it "
            "with 32-bit floats"
        )
    try:
        document = PlyData.read(str(path))
        elements = {
            element.name: {prop.name: np.asarray(element[prop.name]) for prop in element.properties}
            for element in document.elements
        }
    except (PlyParseError, *_ERRORS) as error:
        raise PlyFormatError(
            f"{path}: expected a readable PLY file, got {type(error).__name__}: {error}"
        ) from error
    rows = [element.data for element in document.elements]
    if not document.text and not any(part.dtype.hasobject for part in rows):
        whole = len(_header(path)[0]) + sum(part.nbytes for part in rows)
        if size > whole:
            print_log(
                f"{path}: {size - whole} bytes behind what its header names are not read",
                "current",
                30,
            )
    return elements


def read_ply_vertices(path: str | os.PathLike, required: Iterable[str]) -> dict[str, np.ndarray]:
    """Columns of the element ``vertex`` by property name, in file order.

    Args:
        path: ASCII or binary PLY.
        required (Iterable[str]): Properties that must be there.

    Raises:
        FileNotFoundError: If there is no such file.
        PlyFormatError: If the file is broken, or a property is missing or a list.
    """
    columns = read_ply_elements(path).get("vertex")
    if columns is None:
        raise PlyFormatError(f"{path}: expected an element vertex, got none: export it again")
    missing = [name for name in required if name not in columns]
    if missing and "packed_position" in columns:
        raise PlyFormatError(
            f"{path}: expected a plain PLY file, got the compressed one of SuperSplat: export it "
            "uncompressed, or as .spz"
        )
    if missing:
        raise PlyFormatError(
            f"{path}: expected the vertex properties {missing}, got {list(columns)[:20]}"
        )
    lists = [name for name, values in columns.items() if values.dtype == object]
    if lists:
        raise PlyFormatError(f"{path}: expected numbers per vertex, got lists in {lists}")
    return columns


def read_ply_comments(path: str | os.PathLike) -> list[str]:
    """Comments in the header of a PLY file, in order, without the blanks around them."""
    lines = _header(path)[0].decode(errors="replace").splitlines()
    found = [line.strip()[8:].strip() for line in lines if line.strip().startswith("comment ")]
    return [comment for comment in found if comment]


def read_ply_frame(path: str | os.PathLike) -> SceneFrame | None:
    """Frame in the header of a PLY file (``comment mmcity_frame {json}``), or None.

    Raises:
        PlyFormatError: If it is broken.
    """
    begin = f"{FRAME_KEY} "
    for line in read_ply_comments(path):
        if line.startswith(begin):
            try:
                return SceneFrame.from_line(line.removeprefix(begin), path)
            except ValueError as error:
                raise PlyFormatError(str(error)) from error
    return None


def stamp_ply(path: str | os.PathLike, frame: SceneFrame) -> None:
    """Put a frame into the header of a PLY file that another library wrote."""
    head, size = _header(path)
    first, second, rest = head.split(b"\n", 2)
    line = f"comment {FRAME_KEY} {frame.to_line()}\n".encode()
    with open(path, "rb") as file:
        file.seek(size)
        body = file.read()
    Path(path).write_bytes(b"\n".join([first, second, line + rest]) + body)


def _header(path: str | os.PathLike) -> tuple[bytes, int]:
    """Lines of a PLY file up to ``end_header``, and their bytes."""
    lines = []
    with open(path, "rb") as file:
        for line in file:
            lines.append(line)
            if line.strip() == b"end_header" or len(lines) > _LONGEST_HEADER:
                break
    head = b"".join(lines)
    return head, len(head)


def write_ply_vertices(
    path: str | os.PathLike,
    columns: dict[str, np.ndarray],
    frame: SceneFrame | None = None,
    comments: Sequence[str] = (),
) -> None:
    """Write columns as the element ``vertex`` (binary, little-endian; dtypes are kept).

    Args:
        path: Moved into place when whole.
        columns (dict[str, np.ndarray]): ``(N,)`` each.
        frame (SceneFrame, optional): Where the scene lies, for a comment. Defaults to None: not
            known.
        comments: Lines of the header. Defaults to none.
    """
    write_ply_elements(path, {"vertex": columns}, frame, comments)


def write_ply_elements(
    path: str | os.PathLike,
    elements: dict[str, dict[str, np.ndarray]],
    frame: SceneFrame | None = None,
    comments: Sequence[str] = (),
) -> None:
    """Write elements of columns (binary, little-endian; dtypes are kept).

    Args:
        path: Moved into place when whole.
        elements: Columns ``(N,)`` by the names of element and property.
        frame (SceneFrame, optional): As in :func:`write_ply_vertices`.
        comments: Lines of the header. Defaults to none.
    """
    from plyfile import PlyData, PlyElement

    lines = list(comments)
    if frame is not None and not frame.is_identity:
        lines.append(f"{FRAME_KEY} {frame.to_line()}")
    described = []
    for name, columns in elements.items():
        count = len(next(iter(columns.values())))
        rows = np.empty(count, dtype=[(key, values.dtype) for key, values in columns.items()])
        for key, values in columns.items():
            rows[key] = values
        described.append(PlyElement.describe(rows, name))
    with atomic_path(path) as temporary:
        PlyData(described, byte_order="<", comments=lines).write(str(temporary))
