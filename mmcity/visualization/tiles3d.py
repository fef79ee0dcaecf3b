"""3D Tiles of Gaussians: a tree of cells that browsers stream (OGC 3D Tiles 1.1).

``tileset.json`` names one binary glTF file per cell (``KHR_gaussian_splatting``, by default with
SPZ inside, which CesiumJS draws as splats); a cell is replaced by its children when its error
covers too many pixels.
"""

import hashlib
import math
import os
import posixpath
import re
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import torch
from mmengine.logging import print_log

from mmcity.structures import (
    GaussianFileError,
    GaussianLodTree,
    Gaussians,
    LodCell,
    SceneFrame,
    SplatInfo,
    write_gaussians_glb,
)
from mmcity.structures.io.gaussians_gltf import LOGARITHMS, joined, read_gaussians_gltf
from mmcity.structures.io.glb import GENERATOR, get_frame, set_frame
from mmcity.structures.io.gltf_scene import EXTENSION, SPZ_EXTENSIONS, Y_TO_Z_UP, y_up
from mmcity.structures.world_offset import world_offset
from mmcity.utils.checks import check_choice
from mmcity.utils.dependencies import import_library
from mmcity.utils.fileio import alone_in, path_below, read_json, write_json

_WGS84_AXIS = 6378137.0
_WGS84_FLATTENING = 1 / 298.257223563

#: Coordinates from the middle of the earth, in which tilesets are placed.
_GEOCENTRIC = "EPSG:4978"
_CONTENT = "3DTILES_content_gltf"
#: Extensions that a tileset may require.
_READ_EXTENSIONS = frozenset({_CONTENT})
#: Tilesets that may lie within each other, and tiles below each other.
_MOST_LEVELS, _MOST_DEPTH = 8, 64
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
    compress: str | None = "spz",
    info: SplatInfo | None = None,
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
        compress: ``spz``, or None for plain cells, which CesiumJS up to 1.145 shows as points.
            Defaults to ``spz``.
        info: Model and colour space of the Gaussians. Defaults to None: the usual ones.

    Returns:
        ``tileset.json``.
    """
    folder = Path(folder)
    index = folder / "tileset.json"
    check_choice("compress", compress, (None, "spz"))
    cells = _cells_folder(tree, f"{up}, {compress}, {info and (info.model, info.color_space)}")
    to_tiles = Y_TO_Z_UP @ y_up(up)
    frame = tree.cells[0].gaussians.frame
    transform = root_transform(frame, up, georeference)
    known = info and replace(info, axes=None)  # ``up`` says them

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
    names = [EXTENSION] if compress is None else [EXTENSION, SPZ_EXTENSIONS[0]]
    document = {
        "asset": {"version": "1.1", "generator": GENERATOR},
        "extensionsUsed": [_CONTENT],
        # CesiumJS draws splats only where both are required.
        "extensions": {_CONTENT: {"extensionsUsed": names, "extensionsRequired": names}},
        "geometricError": max(float((high - low).norm()), root["geometricError"]),
        "root": root,
    }
    set_frame(document, frame)
    with alone_in(folder):  # another exporter's cells are no earlier ones
        for number, cell in enumerate(tree.cells):
            name = folder / cells / _cell_name(number)
            write_gaussians_glb(cell.gaussians, name, up=up, info=known, compress=compress)
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


def _cells_folder(tree: GaussianLodTree, options: str) -> str:
    """Name of the folder for the cells, which other cells do not have."""
    digest = hashlib.sha256(options.encode())
    for cell in tree.cells:
        for value in vars(cell.gaussians).values():
            if isinstance(value, torch.Tensor):
                digest.update(value.detach().cpu().contiguous().numpy())
            elif value is not None:
                digest.update(value.to_line().encode())
    return f"cells-{digest.hexdigest()[:8]}"


def read_tileset(path: str | os.PathLike) -> GaussianLodTree:
    """Tree of :func:`read_tileset_file` alone."""
    return read_tileset_file(path)[0]


def read_tileset_file(path: str | os.PathLike) -> tuple[GaussianLodTree, SplatInfo]:
    """Read a tileset of Gaussians into the frame it was made in.

    Tiles are placed by the transforms of all tiles above them but that of the root, which gives
    the place on earth; where a scene of this toolbox lies, its frame tells. A tile without
    content, such as a root that only holds others, shows nothing itself; the content of a tile
    that its children add to is one of them.

    Args:
        path: ``tileset.json`` or its folder.

    Returns:
        The tree, and what its tiles say of the Gaussians.

    Raises:
        FileNotFoundError: If a file is missing.
        GaussianFileError: If it is broken, requires an extension that is not read, or has no
            Gaussians.
    """
    index = Path(path)
    if index.is_dir():
        index = index / "tileset.json"
    reader = _TileReader(index.parent)
    cells = reader.cells
    try:
        document = read_json(index)
        frame, offset = get_frame(document, index), _offset(document)
        above = np.eye(4)
        above[:3, 3] -= offset
        reader.read(index.name, _Place(above))
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
    return GaussianLodTree(cells), reader.info(index)


def _offset(document: dict[str, Any]) -> np.ndarray:
    """Part ``(3,)`` of the coordinates of a tileset without which single precision serves them.

    Tilesets of this toolbox have none: their frame tells where they lie.
    """
    box = document["root"].get("boundingVolume", {}).get("box", ())
    if len(box) != 12 or document.get("asset", {}).get("generator") == GENERATOR:
        return np.zeros(3)
    numbers = np.array(box, dtype=np.float64).reshape(4, 3)
    corners = numbers[0] + np.concatenate([numbers[1:], -numbers[1:]])
    return world_offset(corners, corners[:0])[0]


@dataclass(frozen=True)
class _Place:
    """Place of a tile in the tree.

    Attributes:
        above: ``(4, 4)`` transform of the tiles above.
        depth: Tiles above.
        level: Tilesets around its own.
        refine: What is said of the tiles above.
    """

    above: np.ndarray
    depth: int = 0
    level: int = 0
    refine: str = "REPLACE"


@dataclass
class _TileReader:
    """Reader of a tileset with those that it names.

    Attributes:
        root: Folder of the whole.
        cells: Cells read so far.
        infos: What their files say.
    """

    root: Path
    cells: list[LodCell] = field(default_factory=list)
    infos: list[SplatInfo] = field(default_factory=list)

    def read(self, name: str, place: _Place) -> int:
        """Read the tree of a file below the root; returns the number of its first cell."""
        index = path_below(self.root, name)
        if place.level > _MOST_LEVELS or place.depth > _MOST_DEPTH:
            raise GaussianFileError(
                f"{index}: expected a tileset of at most {_MOST_DEPTH} tiles and {_MOST_LEVELS} "
                "tilesets below each other, got more: write it flatter"
            )
        document = read_json(index)
        unknown = sorted(set(document.get("extensionsRequired", [])) - _READ_EXTENSIONS)
        if unknown:
            raise GaussianFileError(
                f"{index}: expected no required extension but "
                f"{', '.join(sorted(_READ_EXTENSIONS))}, got {', '.join(unknown)}: export the "
                "tiles without it"
            )
        return self._read_tile(name, document["root"], place)

    def _read_tile(self, index: str, entry: dict[str, Any], place: _Place) -> int:
        matrix = place.above
        if place.depth and "transform" in entry:
            matrix = matrix @ np.array(entry["transform"], dtype=np.float64).reshape(4, 4).T
        refine = str(entry.get("refine", place.refine)).upper()
        below = _Place(matrix, place.depth + 1, place.level, refine)
        number = len(self.cells)
        cell = LodCell(_NOTHING, torch.zeros(2, 3), math.inf, place.depth)
        self.cells.append(cell)
        if "implicitTiling" in entry:
            raise GaussianFileError(
                f"{self.root / index}: expected a tree of tiles, got implicit tiling: "
                "export the tiles explicitly"
            )
        contents = entry.get("contents", [entry["content"]] if entry.get("content") else [])
        parts = []
        for content in contents:
            uri = unquote(content.get("uri", content.get("url")))
            # A tileset within another may name what lies beside it, but nothing outside the whole.
            name = uri if uri.startswith("/") else posixpath.normpath(f"{Path(index).parent}/{uri}")
            suffix = Path(uri).suffix.lower()
            if suffix == ".json":  # a tileset of its own
                inner = replace(below, level=place.level + 1, refine="REPLACE")
                cell.children.append(self.read(name, inner))
            elif suffix in (".glb", ".gltf"):
                file = path_below(self.root, name)
                gaussians, info = read_gaussians_gltf(file, tile=matrix)
                gaussians.frame = None  # tiles share that of the whole
                parts.append(gaussians)
                self.infos.append(info)
            else:
                raise GaussianFileError(
                    f"{self.root / index}: expected tiles of .glb, got {uri}: export Gaussians as "
                    "glTF"
                )
        children = entry.get("children", [])
        if children and below.depth > _MOST_DEPTH:
            raise GaussianFileError(
                f"{self.root / index}: expected at most {_MOST_DEPTH} tiles below each other, got "
                "more: write it flatter"
            )
        if parts:
            cell.gaussians = joined(parts)
            cell.box = torch.stack([cell.gaussians.means.amin(0), cell.gaussians.means.amax(0)])
            cell.error = float(entry["geometricError"])
            if cell.children or children and refine == "ADD":  # it is seen together with these
                cell.children.append(len(self.cells))
                self.cells.append(LodCell(cell.gaussians, cell.box, 0.0, place.depth + 1))
        cell.children += [self._read_tile(index, child, below) for child in children]
        return number

    def info(self, index: Path) -> SplatInfo:
        """Statement of all files together; tells once what is old about them."""
        if any(info.extras.get("scales") == "logarithmic" for info in self.infos):
            print_log(f"{index}: {LOGARITHMS}", "current", 30)
        models = {(info.model, info.color_space) for info in self.infos}
        if len(models) > 1:
            raise GaussianFileError(
                f"{index}: expected tiles of one model and colour space, got {sorted(models)}: "
                "export each to a tileset of its own"
            )
        first = self.infos[0]
        degree = max(info.sh_degree for info in self.infos)
        return replace(first, format="3d tiles", sh_degree=degree, lost=(), extras={})


def _cell_name(number: int) -> str:
    return f"{number:06d}.glb"


def _box(cell: LodCell, to_tiles: np.ndarray) -> list[float]:
    """Centre and half axes, column by column, as the format wants them."""
    low, high = cell.box.double().numpy()
    center = to_tiles[:3, :3] @ ((low + high) / 2)
    axes = to_tiles[:3, :3] @ np.diag((high - low) / 2)
    return [*center.tolist(), *axes.T.ravel().tolist()]
