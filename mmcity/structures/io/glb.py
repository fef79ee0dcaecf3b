"""glTF files: a JSON part, and tables of numbers in buffers within the file or beside it."""

import base64
import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from mmcity.structures.scene_frame import FRAME_KEY, SceneFrame
from mmcity.utils.fileio import atomic_path, path_below, read_json, to_json

_HEADER = struct.Struct("<4sII")
_CHUNK = struct.Struct("<I4s")
GENERATOR = "mmcity"
#: What a view holds: attributes of vertices, or indices of faces.
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
_TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
_COMPONENTS: dict[np.dtype[Any], int] = {
    np.dtype("<f4"): 5126,
    np.dtype("u1"): 5121,
    np.dtype("<u2"): 5123,
    np.dtype("<u4"): 5125,
    np.dtype("i1"): 5120,
    np.dtype("<i2"): 5122,
}


class GlbFormatError(ValueError):
    """A file is no binary glTF, or is broken."""


class GlbBuilder:
    """Collects tables of numbers and writes them with the JSON that refers to them."""

    def __init__(self) -> None:
        self.accessors: list[dict[str, Any]] = []
        self._views: list[dict[str, Any]] = []
        self._binary = bytearray()

    def add_view(self, content: bytes, **entries: Any) -> int:
        """Store bytes, at a multiple of four; returns the number of their view."""
        view = {"buffer": 0, "byteOffset": len(self._binary), "byteLength": len(content)}
        self._views.append({**view, **entries})
        self._binary += content + b"\0" * (-len(content) % 4)
        return len(self._views) - 1

    def add(self, values: np.ndarray, normalized: bool = False, bounds: bool = False) -> int:
        """Store a table of attributes; returns the number of its accessor.

        Args:
            values: ``(N,)`` or ``(N, D)`` of a type that glTF knows. Rows of bytes are padded
                to four, as the format asks.
            normalized: Whole numbers stand for [0, 1] (or [-1, 1]). Defaults to False.
            bounds: Note smallest and largest values, which positions need. Defaults to False.
        """
        rows = np.ascontiguousarray(values.reshape(len(values), -1))
        dtype = rows.dtype.newbyteorder("<")
        row_bytes = rows.shape[1] * dtype.itemsize
        stride = -(-row_bytes // 4) * 4
        table = np.zeros((len(rows), stride), np.uint8)
        table[:, :row_bytes] = rows.astype(dtype).view(np.uint8).reshape(len(rows), row_bytes)
        uneven = {"byteStride": stride} if stride != row_bytes else {}
        accessor = describe(rows, normalized, bounds)
        accessor["bufferView"] = self.add_view(table.tobytes(), target=ARRAY_BUFFER, **uneven)
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def write(
        self,
        path: str | os.PathLike,
        content: Mapping[str, Any],
        frame: SceneFrame | None = None,
    ) -> None:
        """Write the file, whole or not at all.

        Args:
            path: Target.
            content: Everything but ``asset``, accessors, views and buffers.
            frame: Where the scene lies. Defaults to None: not known.
        """
        document = {
            "asset": {"version": "2.0", "generator": GENERATOR},
            **content,
            "accessors": self.accessors,
            "bufferViews": self._views,
            "buffers": [{"byteLength": len(self._binary)}],
        }
        set_frame(document, frame)
        write_glb_container(path, document, bytes(self._binary))


def describe(rows: np.ndarray, normalized: bool = False, bounds: bool = False) -> dict[str, Any]:
    """Accessor of a table ``(N, D)`` without its place."""
    accessor: dict[str, Any] = {
        "componentType": _COMPONENTS[rows.dtype.newbyteorder("<")],
        "count": len(rows),
        "type": _TYPES[rows.shape[1]],
    }
    if normalized:
        accessor["normalized"] = True
    if bounds:
        accessor["min"] = rows.min(0).tolist()
        accessor["max"] = rows.max(0).tolist()
    return accessor


def set_frame(document: dict[str, Any], frame: SceneFrame | None) -> None:
    """Note in the asset of a glTF document or a tileset where its scene lies, if that is known."""
    if frame is not None and not frame.is_identity:
        document["asset"].setdefault("extras", {})[FRAME_KEY] = frame.to_dict()


def get_frame(document: Mapping[str, Any], path: str | os.PathLike) -> SceneFrame | None:
    """Frame that :func:`set_frame` noted, or None.

    Raises:
        ValueError: If it is broken.
    """
    extras = document.get("asset", {}).get("extras", {})
    found = extras.get(FRAME_KEY) if isinstance(extras, dict) else None
    return None if found is None else SceneFrame.from_dict(found, path)


def write_glb_container(
    path: str | os.PathLike, document: Mapping[str, Any], binary: bytes
) -> None:
    """Write a ``.glb`` file of its JSON and binary part, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(pack_glb(document, binary))


def pack_glb(document: Mapping[str, Any], binary: bytes) -> bytes:
    """Content of a ``.glb`` file of its JSON and binary part."""
    text = to_json(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    size = _HEADER.size + 2 * _CHUNK.size + len(text) + len(binary)
    head = _HEADER.pack(b"glTF", 2, size) + _CHUNK.pack(len(text), b"JSON")
    return b"".join([head, text, _CHUNK.pack(len(binary), b"BIN\0"), binary])


def read_glb_container(path: str | os.PathLike) -> tuple[dict[str, Any], bytes]:
    """JSON and binary part of a ``.glb`` file.

    Raises:
        FileNotFoundError: If there is no such file.
        GlbFormatError: If it is broken.
    """
    data = Path(path).read_bytes()
    if len(data) < _HEADER.size + _CHUNK.size or data[:4] != b"glTF":
        raise GlbFormatError(f"{path}: expected a binary glTF file, got {data[:8]!r}")
    _, version, size = _HEADER.unpack_from(data)
    if version != 2 or size != len(data):
        raise GlbFormatError(
            f"{path}: expected glTF 2 of {size} bytes, got version {version}, {len(data)} bytes"
        )
    parts: dict[bytes, bytes] = {}
    start = _HEADER.size
    while start + _CHUNK.size <= len(data):
        length, kind = _CHUNK.unpack_from(data, start)
        start += _CHUNK.size
        if start + length > len(data):
            raise GlbFormatError(f"{path}: expected a whole file, got it cut in part {kind!r}")
        parts.setdefault(kind, data[start : start + length])
        start += length
    try:
        document = json.loads(parts[b"JSON"])
    except (KeyError, ValueError) as error:
        raise GlbFormatError(f"{path}: expected a JSON part, got {error!r}") from error
    if not isinstance(document, dict):
        raise GlbFormatError(f"{path}: expected a JSON object, got {type(document).__name__}")
    return document, parts.get(b"BIN\0", b"")


def read_gltf(path: str | os.PathLike) -> tuple[dict[str, Any], list[bytes]]:
    """JSON part and buffers of a ``.glb`` or ``.gltf`` file.

    Buffers lie within the file, as ``data:`` or in files below its folder.

    Raises:
        FileNotFoundError: If there is no such file.
        GlbFormatError: If it is broken.
        ValueError: If a buffer leads out of the folder; names it.
    """
    path = Path(path)
    if path.suffix.lower() == ".gltf":
        document, binary = read_json(path), b""
        if not isinstance(document, dict):
            raise GlbFormatError(f"{path}: expected a JSON object, got {type(document).__name__}")
    else:
        document, binary = read_glb_container(path)
    buffers: list[bytes] = []
    for number, entry in enumerate(document.get("buffers", [])):
        uri = entry.get("uri")
        if uri is None:
            content = binary if number == 0 else b""
        elif uri.startswith("data:"):
            content = base64.b64decode(uri.partition(",")[2], validate=True)
        else:
            content = path_below(path.parent, unquote(uri)).read_bytes()
        if len(content) < entry["byteLength"]:
            raise GlbFormatError(
                f"buffer {number}: expected {entry['byteLength']} bytes, got {len(content)}: "
                "copy the file again with all that belongs to it"
            )
        buffers.append(content)
    return document, buffers


def read_view(document: Mapping[str, Any], buffers: Sequence[bytes], number: int) -> bytes:
    """Bytes of a view.

    Raises:
        GlbFormatError: If it does not fit the file.
    """
    try:
        view = document["bufferViews"][number]
        start, length = int(view.get("byteOffset", 0)), int(view["byteLength"])
        content = buffers[view.get("buffer", 0)][start : start + length]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise GlbFormatError(
            f"buffer view {number}: expected to fit the file, got {error!r}"
        ) from error
    if start < 0 or length < 0 or len(content) != length:
        raise GlbFormatError(
            f"buffer view {number}: expected {length} bytes at {start}, got {len(content)}"
        )
    return content


def read_accessor(
    document: Mapping[str, Any], buffers: bytes | Sequence[bytes], number: int
) -> np.ndarray:
    """Table ``(N, D)`` of an accessor; normalised whole numbers become floats.

    Args:
        document: JSON part.
        buffers: Of :func:`read_gltf`, or the one of a ``.glb`` file.
        number: Of the accessor.

    Raises:
        GlbFormatError: If it does not fit the file.
    """
    buffers = [buffers] if isinstance(buffers, bytes) else buffers
    try:
        accessor = document["accessors"][number]
        dtype = next(d for d, code in _COMPONENTS.items() if code == accessor["componentType"])
        columns = next(n for n, name in _TYPES.items() if name == accessor["type"])
        count, sparse = int(accessor["count"]), accessor.get("sparse")
        if "bufferView" in accessor:
            rows = _rows(document, buffers, accessor, dtype, columns, count)
        elif sparse and 0 <= count <= sum(map(len, buffers)):
            rows = np.zeros((count, columns), dtype)
        else:
            raise ValueError("no bufferView")
        if sparse:
            few = int(sparse["count"])
            kind = next(
                d for d, c in _COMPONENTS.items() if c == sparse["indices"]["componentType"]
            )
            places = _rows(document, buffers, sparse["indices"], kind, 1, few)[:, 0]
            rows[places] = _rows(document, buffers, sparse["values"], dtype, columns, few)
    except (KeyError, IndexError, StopIteration, TypeError, ValueError) as error:
        raise GlbFormatError(
            f"accessor {number}: expected to fit the file, got {error!r}"
        ) from error
    if accessor.get("normalized") and dtype.kind in "iu":
        # The lowest signed number has no counterpart.
        return np.maximum(rows.astype(np.float32) / np.iinfo(dtype).max, -1)
    return rows


def _rows(
    document: Mapping[str, Any],
    buffers: Sequence[bytes],
    place: Mapping[str, Any],
    dtype: np.dtype[Any],
    columns: int,
    count: int,
) -> np.ndarray:
    """Copy of a table, by the view and the offset that ``place`` names."""
    view = document["bufferViews"][place["bufferView"]]
    start = int(view.get("byteOffset", 0)) + int(place.get("byteOffset", 0))
    stride = int(view.get("byteStride", columns * dtype.itemsize))
    if stride < columns * dtype.itemsize:  # rows that overlap could be any number
        raise ValueError(f"a byteStride of {stride}")
    rows: np.ndarray = np.ndarray(
        (count, columns),
        dtype,
        buffers[view.get("buffer", 0)],
        start,
        (stride, dtype.itemsize),
    )
    return rows.copy()
