"""3D Tiles of Gaussians: a tree of cells that browsers stream (OGC 3D Tiles 1.1).

``tileset.json`` names one binary glTF file per cell (``KHR_gaussian_splatting``); a cell is
replaced by its children when its error covers too many pixels.
"""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmcity.structures import (
    GaussianFileError,
    GaussianLodTree,
    LodCell,
    read_gaussians_glb,
    write_gaussians_glb,
)
from mmcity.structures.io.gaussians_gltf import y_up
from mmcity.utils.fileio import read_json, write_json

_WGS84_AXIS = 6378137.0
_WGS84_FLATTENING = 1 / 298.257223563
#: From glTF's axes (y up) to those of 3D Tiles (z up), as viewers apply to the content.
_Y_TO_Z_UP = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])


def east_north_up_frame(longitude: float, latitude: float, height: float = 0.0) -> np.ndarray:
    """``(4, 4)`` matrix from a local frame (x east, y north, z up) to the earth's.

    Args:
        longitude, latitude: Of the local origin, degrees (WGS 84).
        height: Above the ellipsoid, metres. Defaults to 0.
    """
    if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
        raise ValueError(
            f"expected a longitude in [-180, 180] and a latitude in [-90, 90], got {longitude}, "
            f"{latitude}"
        )
    lon, lat = math.radians(longitude), math.radians(latitude)
    squared = _WGS84_FLATTENING * (2 - _WGS84_FLATTENING)  # of the eccentricity
    normal = _WGS84_AXIS / math.sqrt(1 - squared * math.sin(lat) ** 2)
    frame = np.eye(4)
    frame[:3, 0] = -math.sin(lon), math.cos(lon), 0
    frame[:3, 1] = -math.sin(lat) * math.cos(lon), -math.sin(lat) * math.sin(lon), math.cos(lat)
    frame[:3, 2] = math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)
    frame[:3, 3] = (
        (normal + height) * math.cos(lat) * math.cos(lon),
        (normal + height) * math.cos(lat) * math.sin(lon),
        (normal * (1 - squared) + height) * math.sin(lat),
    )
    return frame


def write_tileset(
    tree: GaussianLodTree,
    folder: str | os.PathLike,
    up: str = "z",
    georeference: tuple[float, float, float] | None = None,
) -> Path:
    """Write a tileset; ``tileset.json`` comes last, so that a broken-off export is not opened.

    Args:
        tree: Of :func:`~mmcity.structures.build_lod_tree`.
        folder: Target; cells go to ``cells/``.
        up: Axis of the world that points up, as in
            :func:`~mmcity.structures.write_gaussians_glb`. Defaults to ``z``.
        georeference: Longitude, latitude (degrees) and height (metres) of the world's origin,
            whose x then points east and y north. Defaults to None: no place on earth.

    Returns:
        ``tileset.json``.
    """
    folder = Path(folder)
    index = folder / "tileset.json"
    index.unlink(missing_ok=True)
    to_tiles = _Y_TO_Z_UP @ y_up(up)
    for number, cell in enumerate(tree.cells):
        write_gaussians_glb(cell.gaussians, folder / _cell_name(number), up=up)

    def tile(number: int) -> dict[str, Any]:
        cell = tree.cells[number]
        entry: dict[str, Any] = {
            "boundingVolume": {"box": _box(cell, to_tiles)},
            "geometricError": cell.error,
            "refine": "REPLACE",
            "content": {"uri": _cell_name(number)},
        }
        if cell.children:
            entry["children"] = [tile(child) for child in cell.children]
        return entry

    root = tile(0)
    if georeference is not None:
        root["transform"] = east_north_up_frame(*georeference).T.ravel().tolist()
    low, high = tree.cells[0].box
    document = {
        "asset": {"version": "1.1", "generator": "mmcity"},
        "extensionsUsed": ["3DTILES_content_gltf"],
        "extensions": {"3DTILES_content_gltf": {"extensionsUsed": ["KHR_gaussian_splatting"]}},
        "geometricError": float((high - low).norm()),
        "root": root,
    }
    write_json(index, document)
    return index


def read_tileset(path: str | os.PathLike) -> GaussianLodTree:
    """Read a tileset of Gaussians into the frame it was made in.

    Args:
        path: ``tileset.json`` or its folder. Transforms are ignored: the cells of one tileset
            share a frame.

    Raises:
        FileNotFoundError: If a file is missing.
        GaussianFileError: If it is broken, or a tile holds no Gaussians.
    """
    index = Path(path)
    if index.is_dir():
        index = index / "tileset.json"
    cells: list[LodCell] = []

    def read(entry: dict[str, Any], depth: int) -> int:
        number = len(cells)
        gaussians = read_gaussians_glb(index.parent / entry["content"]["uri"])
        means = gaussians.means
        box = torch.stack([means.amin(0), means.amax(0)])
        cell = LodCell(gaussians, box, float(entry["geometricError"]), depth)
        cells.append(cell)
        cell.children = [read(child, depth + 1) for child in entry.get("children", [])]
        return number

    try:
        document = read_json(index)
        read(document["root"], 0)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, GaussianFileError):
            raise
        raise GaussianFileError(f"{index}: expected a tileset, got {error!r}") from error
    return GaussianLodTree(cells)


def _cell_name(number: int) -> str:
    return f"cells/{number:06d}.glb"


def _box(cell: LodCell, to_tiles: np.ndarray) -> list[float]:
    """Centre and half axes, column by column, as the format wants them."""
    low, high = cell.box.double().numpy()
    center = to_tiles[:3, :3] @ ((low + high) / 2)
    axes = to_tiles[:3, :3] @ np.diag((high - low) / 2)
    return [*center.tolist(), *axes.T.ravel().tolist()]
