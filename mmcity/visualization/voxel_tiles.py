"""Occupancy as voxels of glTF and of 3D Tiles, which browsers draw as volumes.

A grid counts x east, y north, z up. Labels become the attribute ``_SEMANTICS`` of a primitive of
``EXT_primitive_voxels``, cells of the free label none at all; a tileset holds one such file
(``3DTILES_content_voxels``).
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmcity.structures import VoxelGrid
from mmcity.structures.io.glb import ARRAY_BUFFER, GENERATOR, GlbBuilder, describe
from mmcity.structures.io.gltf_scene import UP_KEY, Y_TO_Z_UP
from mmcity.utils.fileio import atomic_paths, write_json

from .tiles3d import east_north_up_frame

_VOXELS, _METADATA, _SHAPES = (
    "EXT_primitive_voxels",
    "EXT_structural_metadata",
    "KHR_implicit_shapes",
)
_CONTENT = "3DTILES_content_voxels"
#: Number that stands in the mode of a primitive for one of voxels.
_VOXEL_MODE = 2**31 - 1
_ATTRIBUTE, _CLASS, _PROPERTY = "_SEMANTICS", "voxel", "semantics"
#: Places of the one content, and of the one table that says that it is there.
_PLACE = "{level}/{x}/{y}/{z}"
_FIRST = _PLACE.format(level=0, x=0, y=0, z=0)


def write_voxel_glb(grid: VoxelGrid, path: str | os.PathLike) -> None:
    """Write labels as one primitive of ``EXT_primitive_voxels`` in binary glTF.

    Element ``x + X (z + Z (Y - 1 - y))`` of the attribute holds the label of cell (x, y, z).

    Args:
        grid: A single grid with labels of 0 to 255.
        path: ``.glb`` file, moved into place when whole.

    Raises:
        ValueError: If the grid has time steps or no labels, or a label above 255.
    """
    labels = _bytes_of(grid)
    (x, y, z), center, size = labels.shape, *_box(grid)
    builder = GlbBuilder()
    # In glTF y is up and z south.
    values = labels[:, ::-1].transpose(1, 2, 0).reshape(-1, 1)
    view = builder.add_view(values.tobytes(), target=ARRAY_BUFFER)  # without a stride
    builder.accessors.append({**describe(values), "bufferView": view})
    names = [_VOXELS, _METADATA, _SHAPES]
    primitive = {
        "mode": _VOXEL_MODE,
        "attributes": {_ATTRIBUTE: 0},
        "extensions": {
            _VOXELS: {
                "shape": 0,
                "dimensions": [x, z, y],
                "noData": {_ATTRIBUTE: [grid.free_label]},
            },
            _METADATA: {"propertyAttributes": [0]},
        },
    }
    described = {"class": _CLASS, "properties": {_PROPERTY: {"attribute": _ATTRIBUTE}}}
    content = {
        "asset": {"version": "2.0", "generator": GENERATOR},
        "extensionsUsed": names,
        "extensionsRequired": names,
        "extensions": {
            _SHAPES: {"shapes": [{"type": "box", "box": {"size": size[[0, 2, 1]].tolist()}}]},
            _METADATA: {"schema": _schema(grid), "propertyAttributes": [described]},
        },
        "extras": {UP_KEY: "z"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "translation": (Y_TO_Z_UP[:3, :3].T @ center).tolist()}],
        "meshes": [{"primitives": [primitive]}],
    }
    builder.write(path, content)


def write_voxel_tileset(
    grid: VoxelGrid,
    folder: str | os.PathLike,
    georeference: tuple[float, float, float] | None = None,
    poses: np.ndarray | None = None,
    times: Sequence[float] | None = None,
) -> Path:
    """Write a grid as a tileset, or a clip as one tileset a frame with an index of them.

    Args:
        grid: With labels of 0 to 255, ``(X, Y, Z)`` or ``(T, X, Y, Z)``.
        folder: Target; the index comes last.
        georeference: Longitude, latitude (degrees) and height (metres) of the world's origin,
            whose x then points east and y north. Defaults to None: no place on earth.
        poses: ``(T, 4, 4)``, grid to world, of a clip that moves. Defaults to None.
        times: ``(T,)`` seconds of the frames. Defaults to their numbers.

    Returns:
        ``tileset.json``; of a clip ``index.json``, which lists ``time`` and ``uri`` of each.

    Raises:
        ValueError: If the grid has no labels, or one above 255, or poses and times do not fit it.
    """
    folder = Path(folder)
    to_earth = np.eye(4) if georeference is None else east_north_up_frame(*georeference)
    if grid.labels is None or grid.labels.ndim == 3:
        return _write_frame(grid, folder, to_earth)
    if grid.labels.ndim != 4:
        raise ValueError(f"grid: expected (X, Y, Z) or (T, X, Y, Z), got {grid}")
    count = len(grid.labels)
    poses = np.tile(np.eye(4), (count, 1, 1)) if poses is None else np.asarray(poses)
    times = list(range(count)) if times is None else list(times)
    if len(times) != count or poses.shape != (count, 4, 4):
        raise ValueError(
            f"poses, times: expected one for each of {count} frames, got {len(poses)} and "
            f"{len(times)}"
        )
    frames = []
    for number, (pose, time) in enumerate(zip(poses, times)):
        name = f"{number:06d}"
        written = _write_frame(grid[number], folder / name, to_earth @ pose)
        frames.append({"time": float(time), "uri": f"{name}/{written.name}"})
    index = folder / "index.json"
    write_json(index, {"frames": frames})
    return index


def _write_frame(grid: VoxelGrid, folder: Path, transform: np.ndarray) -> Path:
    center, size = _box(grid)
    there = {"constant": 1}
    subtree = {
        "tileAvailability": there,
        "contentAvailability": [there],
        "childSubtreeAvailability": {"constant": 0},
    }
    described = {"dimensions": list(grid.shape), "class": _CLASS}
    root: dict[str, Any] = {
        "boundingVolume": {"box": [*center.tolist(), *np.diag(size / 2).ravel().tolist()]},
        "geometricError": 0.0,
        "refine": "REPLACE",
        "content": {"uri": f"tiles/{_PLACE}.glb", "extensions": {_CONTENT: described}},
        "implicitTiling": {
            "subdivisionScheme": "OCTREE",
            "subtreeLevels": 1,
            "availableLevels": 1,
            "subtrees": {"uri": f"subtrees/{_PLACE}.json"},
        },
    }
    if not np.array_equal(transform, np.eye(4)):
        root["transform"] = transform.T.ravel().tolist()
    document = {
        "asset": {"version": "1.1", "generator": GENERATOR},
        "extensionsUsed": [_CONTENT],
        "extensionsRequired": [_CONTENT],
        "schema": _schema(grid),
        "geometricError": float(np.linalg.norm(size)),
        "root": root,
    }
    index = folder / "tileset.json"
    parts = (index, folder / "subtrees" / f"{_FIRST}.json", folder / "tiles" / f"{_FIRST}.glb")
    with atomic_paths(parts) as (first, second, third):
        write_voxel_glb(grid, third)
        write_json(second, subtree)
        write_json(first, document)
    return index


def _bytes_of(grid: VoxelGrid) -> np.ndarray:
    """``(X, Y, Z)`` uint8 labels of a single grid."""
    if grid.labels is None or grid.labels.ndim != 3:
        raise ValueError(f"grid: expected a single one with labels, got {grid}")
    labels = grid.labels.cpu().numpy()
    low, high = min(int(labels.min()), grid.free_label), max(int(labels.max()), grid.free_label)
    if low < 0 or high > 255:
        raise ValueError(f"labels: expected 0 to 255, got {low} to {high}: map them to fewer")
    return labels.astype(np.uint8)


def _box(grid: VoxelGrid) -> tuple[np.ndarray, np.ndarray]:
    """Centre and edges ``(3,)`` of a grid, metres."""
    size = grid.voxel_size.double().cpu().numpy() * np.array(grid.shape)
    return grid.origin.double().cpu().numpy() + size / 2, size


def _schema(grid: VoxelGrid) -> dict[str, Any]:
    one = {"type": "SCALAR", "componentType": "UINT8", "noData": grid.free_label}
    return {"id": "occupancy", "classes": {_CLASS: {"properties": {_PROPERTY: one}}}}
