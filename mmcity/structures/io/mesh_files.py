"""Meshes and clouds of files, through trimesh.

Colours in memory are sRGB-coded bytes. glTF wants them linear, which trimesh does not know.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from mmcity.utils.srgb import linear_to_srgb, srgb_to_linear

from .glb import (
    ARRAY_BUFFER,
    ELEMENT_ARRAY_BUFFER,
    GlbFormatError,
    pack_glb,
    read_accessor,
    read_glb_container,
)

#: Where a file notes that its colours are linear, in the extras of its asset.
_INFO_KEY, _COLORS = "mmcity", {"colors": "linear"}


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
        if Path(path).suffix.lower() == ".glb":
            content = io.BytesIO(_with_srgb_colors(path))
            return trimesh.load(content, file_type="glb", **options)
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


def write_mesh(mesh: Any, path: str | os.PathLike) -> None:
    """Write a mesh, a cloud or a scene in the format that the name chooses.

    Binary glTF gets normals, linear colours and views that tell what they are for.

    Args:
        mesh: Of trimesh.
        path: Temporary name of :func:`~mmcity.utils.fileio.atomic_path`, with the final suffix.
    """
    if Path(path).suffix.lower() != ".glb":
        mesh.export(path)
        return
    scene = mesh if isinstance(mesh, trimesh.Scene) else trimesh.Scene([mesh])
    scene.export(path, file_type="glb", include_normals=True)
    document, binary = _recolored(*read_glb_container(path), _linear)
    for primitive in _primitives(document):
        uses = {number: ARRAY_BUFFER for number in primitive["attributes"].values()}
        if "indices" in primitive:
            uses[primitive["indices"]] = ELEMENT_ARRAY_BUFFER
        for number, use in uses.items():
            document["bufferViews"][document["accessors"][number]["bufferView"]]["target"] = use
    document["asset"].setdefault("extras", {})[_INFO_KEY] = _COLORS
    Path(path).write_bytes(pack_glb(document, binary))


def _with_srgb_colors(path: str | os.PathLike) -> bytes:
    """A ``.glb`` file whose colours of vertices are sRGB-coded bytes."""
    document, binary = read_glb_container(path)
    asset = document.get("asset", {})
    is_linear = asset.get("extras", {}).get(_INFO_KEY, {}).get("colors") == "linear"
    if "trimesh" not in str(asset.get("generator")) or is_linear:
        document, binary = _recolored(document, binary, _srgb)
    return pack_glb(document, binary)


def _primitives(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for mesh in document.get("meshes", []) for part in mesh["primitives"]]


def _recolored(
    document: dict[str, Any], binary: bytes, change: Callable[[np.ndarray], np.ndarray]
) -> tuple[dict[str, Any], bytes]:
    """The content of a ``.glb`` file with other colours of vertices, ``(N, 3 or 4)`` in [0, 1]."""
    parts = [part["attributes"] for part in _primitives(document)]
    for number in {part["COLOR_0"] for part in parts if "COLOR_0" in part}:
        values = read_accessor(document, binary, number)
        if values.dtype.kind != "f" or values.shape[1] not in (3, 4):
            raise GlbFormatError(
                f"accessor {number}: expected colours as floats or normalised whole numbers"
            )
        rows = change(values)
        whole = rows.dtype.kind == "u"
        view = document["accessors"][number]["bufferView"]
        if sum(a.get("bufferView") == view for a in document["accessors"]) > 1:
            document["bufferViews"].append({})
            view = len(document["bufferViews"]) - 1
        binary += b"\0" * (-len(binary) % 4)
        document["bufferViews"][view] = dict(
            buffer=0, byteOffset=len(binary), byteLength=rows.nbytes
        )
        document["accessors"][number] = dict(
            bufferView=view, componentType=5121 if whole else 5126, count=len(rows),
            type=f"VEC{rows.shape[1]}", **({"normalized": True} if whole else {}),
        )  # fmt: skip
        binary += rows.tobytes()
        document["buffers"][0]["byteLength"] = len(binary)
    return document, binary


def _linear(colors: np.ndarray) -> np.ndarray:
    """Floats, which hold dark colours; alpha is left out where all are opaque."""
    rows = colors.astype(np.float32)
    rows[:, :3] = srgb_to_linear(rows[:, :3])
    return rows[:, :3].copy() if rows.shape[1] == 3 or (rows[:, 3] == 1).all() else rows


def _srgb(colors: np.ndarray) -> np.ndarray:
    rows = np.ones((len(colors), 4))
    rows[:, : colors.shape[1]] = colors
    rows[:, :3] = linear_to_srgb(rows[:, :3])
    return np.round(np.clip(rows, 0, 1) * 255).astype(np.uint8)
