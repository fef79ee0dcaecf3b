"""3D Tiles of Gaussians: a tree of cells that browsers stream (OGC 3D Tiles 1.1).

``tileset.json`` names one binary glTF file per cell (``KHR_gaussian_splatting``); a cell is
replaced by its children when its error covers too many pixels.
"""

import hashlib
import math
import os
import posixpath
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmcity.structures import (
    GaussianFileError,
    GaussianLodTree,
    Gaussians,
    LodCell,
    SceneFrame,
    read_gaussians_glb,
    write_gaussians_glb,
)
from mmcity.structures.io.gaussians_gltf import Y_TO_Z_UP, y_up
from mmcity.structures.io.glb import get_frame, set_frame
from mmcity.structures.world_offset import world_offset
from mmcity.utils.dependencies import import_library
from mmcity.utils.fileio import path_below, read_json, write_json

_WGS84_AXIS = 6378137.0
_WGS84_FLATTENING = 1 / 298.257223563

#: Coordinates from the middle of the earth, in which tilesets are placed.
_GEOCENTRIC = "EPSG:4978"
#: Extensions that a tileset may require.
_READ_EXTENSIONS = frozenset({"3DTILES_content_gltf"})
#: Folders of cells, those of version 0.1 included.
_CELLS = r"cells(-[0-9a-f]{8})?"
_NOTHING = Gaussians(
    *(torch.zeros(0, columns) for columns in (3, 4, 3)), torch.zeros(0), torch.zeros(0, 1, 3)
)


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

    An earlier tileset in the folder goes when the new one is whole.

    Args:
        tree: Of :func:`~mmcity.structures.build_lod_tree`.
        folder: Target; cells go to a folder below it, named by their content.
        up: Axis of the world that points up, as in
            :func:`~mmcity.structures.write_gaussians_glb`. Defaults to ``z``.
        georeference: Longitude, latitude (degrees) and height (metres) of the world's origin,
            whose x then points east and y north. Defaults to None: the place that the frame of
            the Gaussians tells, see :func:`root_transform`; without one no place on earth.

    Returns:
        ``tileset.json``.
    """
    folder = Path(folder)
    index = folder / "tileset.json"
    cells = _cells_folder(tree, up)
    to_tiles = Y_TO_Z_UP @ y_up(up)
    frame = tree.cells[0].gaussians.frame
    transform = root_transform(frame, up, georeference)
    for number, cell in enumerate(tree.cells):
        write_gaussians_glb(cell.gaussians, folder / cells / _cell_name(number), up=up)

    def tile(number: int) -> dict[str, Any]:
        cell = tree.cells[number]
        entry: dict[str, Any] = {
            "boundingVolume": {"box": _box(cell, to_tiles)},
            "geometricError": cell.error,
            "refine": "REPLACE",
            "content": {"uri": f"{cells}/{_cell_name(number)}"},
        }
        if cell.children:
            entry["children"] = [tile(child) for child in cell.children]
        return entry

    root = tile(0)
    if transform is not None:
        root["transform"] = transform.T.ravel().tolist()
    low, high = tree.cells[0].box
    document = {
        "asset": {"version": "1.1", "generator": "mmcity"},
        "extensionsUsed": ["3DTILES_content_gltf"],
        "extensions": {"3DTILES_content_gltf": {"extensionsUsed": ["KHR_gaussian_splatting"]}},
        "geometricError": float((high - low).norm()),
        "root": root,
    }
    set_frame(document, frame)
    write_json(index, document)
    for earlier in folder.glob("cells*"):
        if re.fullmatch(_CELLS, earlier.name) and earlier.name != cells:
            shutil.rmtree(earlier)
    return index


def root_transform(
    frame: SceneFrame | None, up: str, georeference: tuple[float, float, float] | None = None
) -> np.ndarray | None:
    """``(4, 4)`` matrix from tiles (z up) to the earth, or to a world without a place on it.

    Args:
        frame: Of the scene; None for one that is the world itself.
        up: Axis of the scene that points up.
        georeference: Longitude, latitude and height of the world's origin, whose axes are the
            scene's, turned so that z points up.

    Returns:
        None for a scene that is the world itself.

    Raises:
        DependencyError: If a projected reference system needs pyproj.
        ValueError: If the reference system is unknown or geographic, the scene lies outside its
            area, or a world of metres by definition has another unit.
    """
    to_tiles = Y_TO_Z_UP @ y_up(up)
    to_scene = np.linalg.inv(to_tiles)
    placed = np.eye(4) if frame is None else frame.matrix
    is_about_a_point = georeference is not None or (frame is not None and frame.crs == "ENU")
    if is_about_a_point and frame is not None and frame.unit != "m":
        raise ValueError(
            f"the frame's unit: expected 'm' about a place on earth, got {frame.unit!r}: multiply "
            "origin, scale and translation by its metres"
        )
    if georeference is not None:
        return east_north_up_frame(*georeference) @ to_tiles @ placed @ to_scene
    if frame is None or frame.is_identity:
        return None
    if frame.crs == "ENU" and frame.lla is not None:
        latitude, longitude, height = frame.lla
        return east_north_up_frame(longitude, latitude, height) @ placed @ to_scene
    if frame.crs in ("", "ENU", _GEOCENTRIC):
        return placed @ to_scene
    return _projected(frame) @ to_scene


def _projected(frame: SceneFrame) -> np.ndarray:
    """From a scene in a projected reference system to the earth, by the place of its origin.

    The system tells the units of its axes, such as US survey feet.
    """
    pyproj = import_library(
        "pyproj",
        f"places in {frame.crs[:40]}",
        "pip install pyproj, or give the place of the world's origin by --georeference",
    )
    named = f"the frame's crs {frame.crs[:40]}"
    try:
        system = pyproj.CRS(frame.crs)
        to_geodetic = pyproj.Transformer.from_crs(frame.crs, "EPSG:4979", always_xy=True)
    except pyproj.exceptions.ProjError as error:
        raise ValueError(f"{named}: expected a reference system, got '{error}'") from error
    if not system.is_projected:
        raise ValueError(
            f"{named}: expected a projected system or EPSG:4978, got one in "
            f"{system.axis_info[0].unit_name}: give the scene in one of these"
        )
    meters = [axis.unit_conversion_factor for axis in system.axis_info]
    here = np.array(frame.scene_to_world(np.zeros(3)))
    north = here + [0, 1, 0]
    if len(meters) == 2:  # a system of the plane has no heights: they are in its unit
        meters.append(meters[0])
        here[2] *= meters[2]
        north[2] *= meters[2]
    place, beside = to_geodetic.transform(*here), to_geodetic.transform(*north)
    if not np.isfinite([place, beside]).all():
        raise ValueError(
            f"{named}: expected a place within its area, got {here.tolist()}: correct the frame, "
            "or give the place of the world's origin by --georeference"
        )
    local = east_north_up_frame(*place)
    there = np.linalg.inv(local) @ east_north_up_frame(*beside)[:, 3]
    # Grids are turned against true north.
    turn = math.atan2(-there[0], there[1])
    grid = np.eye(4)
    grid[:2, :2] = [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    about = frame.matrix
    about[:3, 3] = 0
    return local @ grid @ np.diag([*meters, 1]) @ about


def _cells_folder(tree: GaussianLodTree, up: str) -> str:
    """Name of the folder for the cells, which other cells do not have."""
    digest = hashlib.sha256(up.encode())
    for cell in tree.cells:
        for value in vars(cell.gaussians).values():
            if isinstance(value, torch.Tensor):
                digest.update(value.detach().cpu().contiguous().numpy())
            elif value is not None:
                digest.update(value.to_line().encode())
    return f"cells-{digest.hexdigest()[:8]}"


def read_tileset(path: str | os.PathLike) -> GaussianLodTree:
    """Read a tileset of Gaussians into the frame it was made in.

    Tiles are placed by the transforms of all tiles above them but that of the root, which gives
    the place on earth; where a scene of this toolbox lies, its frame tells. A tile without
    content, such as a root that only holds others, shows nothing itself; the content of a tile
    that its children add to is one of them.

    Args:
        path: ``tileset.json`` or its folder.

    Raises:
        FileNotFoundError: If a file is missing.
        GaussianFileError: If it is broken, requires an extension that is not read, or has no
            Gaussians.
    """
    index = Path(path)
    if index.is_dir():
        index = index / "tileset.json"
    cells: list[LodCell] = []
    try:
        document = read_json(index)
        frame, offset = get_frame(document, index), _offset(document)
        above = np.eye(4)
        above[:3, 3] -= offset
        _read_tiles(index.parent, index.name, cells, above, 0)
        if offset.any():  # of a tileset of others, whose content has y up
            frame = SceneFrame().shifted(Y_TO_Z_UP[:3, :3].T @ offset)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, GaussianFileError):
            raise
        raise GaussianFileError(f"{index}: expected a tileset, got {error!r}") from error
    shown = [cell for cell in cells if len(cell.gaussians)]
    if not shown:
        raise GaussianFileError(f"{index}: expected tiles with Gaussians, got none")
    for cell in reversed(cells):  # children come behind their parents
        if not len(cell.gaussians):
            cell.gaussians = shown[0].gaussians[:0]
            boxes = torch.stack([cells[child].box for child in cell.children] or [shown[0].box])
            cell.box = torch.stack([boxes[:, 0].amin(0), boxes[:, 1].amax(0)])
    for cell in cells:
        cell.gaussians.frame = frame
    return GaussianLodTree(cells)


def _offset(document: dict[str, Any]) -> np.ndarray:
    """Part ``(3,)`` of the coordinates of a tileset without which single precision serves them.

    Tilesets of this toolbox have none: their frame tells where they lie.
    """
    box = document["root"].get("boundingVolume", {}).get("box", ())
    if len(box) != 12 or document.get("asset", {}).get("generator") == "mmcity":
        return np.zeros(3)
    numbers = np.array(box, dtype=np.float64).reshape(4, 3)
    corners = numbers[0] + np.concatenate([numbers[1:], -numbers[1:]])
    return world_offset(corners, corners[:0])[0]


def _read_tiles(root: Path, name: str, cells: list[LodCell], above: np.ndarray, depth: int) -> int:
    """Read the tree of a file behind the cells; returns the number of its root.

    Args:
        root: Folder of the whole tileset.
        name: Of the file below it.
        cells: Those read before; more are added.
        above: ``(4, 4)`` transform of the tiles above.
        depth: Of the first tile.
    """
    index = path_below(root, name)
    document = read_json(index)
    unknown = sorted(set(document.get("extensionsRequired", [])) - _READ_EXTENSIONS)
    if unknown:
        raise GaussianFileError(
            f"{index}: expected no required extension but {', '.join(sorted(_READ_EXTENSIONS))}, "
            f"got {', '.join(unknown)}: export the tiles without it"
        )
    return _read_tile(root, name, document["root"], cells, above, depth)


def _read_tile(
    root: Path,
    index: str,
    entry: dict[str, Any],
    cells: list[LodCell],
    above: np.ndarray,
    depth: int,
) -> int:
    matrix = above
    if depth and "transform" in entry:
        matrix = above @ np.array(entry["transform"], dtype=np.float64).reshape(4, 4).T
    number = len(cells)
    cell = LodCell(_NOTHING, torch.zeros(2, 3), math.inf, depth)
    cells.append(cell)
    if "implicitTiling" in entry:
        raise GaussianFileError(
            f"{root / index}: expected a tree of tiles, got implicit tiling: "
            "export the tiles explicitly"
        )
    contents = entry.get("contents", [entry["content"]] if entry.get("content") else [])
    parts = []
    for content in contents:
        uri = content.get("uri", content.get("url"))
        # A tileset within another may name what lies beside it, but nothing outside of the whole.
        name = uri if uri.startswith("/") else posixpath.normpath(f"{Path(index).parent}/{uri}")
        if Path(uri).suffix == ".json":  # a tileset of its own
            cell.children.append(_read_tiles(root, name, cells, matrix, depth + 1))
        else:
            if Path(uri).suffix.lower() != ".glb":
                raise GaussianFileError(
                    f"{root / index}: expected tiles of .glb, got {uri}: export Gaussians as glTF"
                )
            parts.append(read_gaussians_glb(path_below(root, name), tile=matrix))
            parts[-1].frame = None  # tiles share that of the whole
    if parts:
        cell.gaussians = Gaussians.cat(parts)
        cell.box = torch.stack([cell.gaussians.means.amin(0), cell.gaussians.means.amax(0)])
        cell.error = float(entry["geometricError"])
    children = entry.get("children", [])
    if parts and children and entry.get("refine", "REPLACE").upper() == "ADD":
        cell.children.append(len(cells))
        cells.append(LodCell(cell.gaussians, cell.box, 0.0, depth + 1))
    cell.children += [
        _read_tile(root, index, child, cells, matrix, depth + 1) for child in children
    ]
    return number


def _cell_name(number: int) -> str:
    return f"{number:06d}.glb"


def _box(cell: LodCell, to_tiles: np.ndarray) -> list[float]:
    """Centre and half axes, column by column, as the format wants them."""
    low, high = cell.box.double().numpy()
    center = to_tiles[:3, :3] @ ((low + high) / 2)
    axes = to_tiles[:3, :3] @ np.diag((high - low) / 2)
    return [*center.tolist(), *axes.T.ravel().tolist()]
