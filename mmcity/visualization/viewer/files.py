"""Layers of the viewer from files and folders."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from mmengine.logging import print_log

from mmcity.datasets.io.colmap_model import (
    find_colmap_model,
    frame_of_model,
    read_colmap_model,
)
from mmcity.datasets.io.point_ply import read_point_ply
from mmcity.structures import (
    GAUSSIAN_SUFFIXES,
    GaussianLodTree,
    Gaussians,
    SceneFrame,
    Sim3,
    SplatInfo,
    Trajectory,
    TrajectoryFormatError,
    read_frame_of,
    read_gaussian_file,
)
from mmcity.structures.axes import up_direction
from mmcity.structures.io.frame_files import axes_of_scene
from mmcity.structures.io.gaussian_files import find_format, find_gaussian_file, sniff_format
from mmcity.structures.io.gaussians_gltf import GLB, GLTF
from mmcity.structures.io.gaussians_ply import PLY
from mmcity.structures.io.gltf_primitives import NoGaussiansError
from mmcity.structures.io.mesh_files import MeshFileError, read_mesh
from mmcity.structures.io.ply import read_ply_vertices
from mmcity.structures.io.view_notes import ViewNotes, read_view_notes
from mmcity.utils.cli import UserError
from mmcity.utils.failures import ItemFailures
from mmcity.utils.fileio import damage_told, read_json, visible

from ..tiles3d import read_tileset_file
from .occupancy_files import is_occupancy_folder, open_occupancy_file, open_occupancy_folder

_MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".stl", ".off")
#: What a folder is searched for; of files of one name the first kind counts.
_SCENE_SUFFIXES = tuple(
    dict.fromkeys((".ply", ".spz", *GAUSSIAN_SUFFIXES, ".npz", *_MESH_SUFFIXES))
)
_SCENE_FILES = ("trajectory.txt", "results.json")
_GAUSSIAN_PROPERTIES = ("opacity", "scale_0", "rot_0")


class UnknownFileError(UserError, ValueError):
    """A path holds nothing that can be shown."""


@dataclass
class Layer:
    """One thing to show.

    Attributes:
        name: Unique name, which becomes a switch in the viewer.
        kind: ``gaussians``, ``mesh``, ``points``, ``cameras``, ``trajectory``, ``occupancy``
            or ``localization``.
        data: ``Gaussians`` or ``GaussianLodTree``; ``trimesh.Trimesh``; (points ``(N, 3)``,
            colours ``(N, 3)`` uint8); ``(Cameras, list of image paths or None)``;
            ``Trajectory``; ``(VoxelGrid, palette)``; rows of ``results.json``.
        frame: Where it lies. Defaults to None: its coordinates are the world's.
        notes: Which way is up in it, and what it lacks of its scene. Defaults to None: not known.
        info: Statements of a file of Gaussians besides their numbers. Defaults to None: none.
    """

    name: str
    kind: str
    data: Any
    frame: SceneFrame | None = None
    notes: ViewNotes | None = None
    info: SplatInfo | None = None


def open_layers(
    path: str | os.PathLike, drop_invalid: bool = False, failures: ItemFailures | None = None
) -> list[Layer]:
    """Read whatever lies at a path.

    Args:
        path: A file: Gaussians (of one of ``GAUSSIAN_SUFFIXES``), mesh (``.ply``, ``.obj``,
            ``.glb``, ``.stl``), point cloud (``.ply``, ``.glb``), ``tileset.json``,
            trajectory (``.txt``; TUM or KITTI lines), occupancy (``.npz``), ``results.json``
            of a localisation. A folder: COLMAP or Nerfstudio scene, reconstructed stream,
            localisation, tileset, occupancy frames, or any folder with such files and folders
            at any depth; of files that differ in their suffix alone the first is read.
        drop_invalid: Leave out Gaussians of a file that are not finite. Defaults to False.
        failures: Takes the files of a folder that cannot be read. Defaults to None: they are an
            error, once the others are read.

    Raises:
        FileNotFoundError: If there is no such path.
        UnknownFileError: If nothing in it can be shown.
    """
    path = Path(path)
    if path.is_dir():
        bad = ItemFailures("files") if failures is None else failures
        layers = list(_open_folder(path, drop_invalid, bad))
        if failures is None or not layers:
            bad.check()
    elif path.is_file():
        layers = list(_open_file(path, drop_invalid))
    else:
        raise FileNotFoundError(f"{path}: expected a file or folder, found none")
    if not layers:
        raise UnknownFileError(
            f"{path}: expected Gaussians, a mesh, points, cameras, a trajectory, occupancy or a "
            "localisation, found nothing of that kind"
        )
    return layers


def _open_file(path: Path, drop_invalid: bool = False) -> Iterator[Layer]:
    suffix = path.suffix.lower()
    name = f"{path.parent.name}/{path.stem}"
    # The name of a JSON file tells nothing.
    kind = sniff_format(path) if suffix == ".json" else find_format(path)
    if kind is PLY:
        yield _open_ply(path, name, drop_invalid)
    elif kind in (GLB, GLTF) or suffix in _MESH_SUFFIXES:
        yield from _open_mesh(path, name, drop_invalid)
    elif kind is not None:
        yield _open_gaussians(path, name, drop_invalid)
    elif suffix == ".npz":
        found = open_occupancy_file(path)
        if found is not None:
            yield Layer(name, "occupancy", found, read_frame_of(path))
    elif suffix == ".json":
        yield from _open_json(path, name)
    elif suffix == ".txt":
        yield Layer(name, "trajectory", _open_trajectory(path))
    else:
        known = ", ".join((*_SCENE_SUFFIXES, ".json", ".txt"))
        raise UnknownFileError(
            f"{path}: expected one of {known}, got {suffix!r}: export it in one of these formats"
        )


def _gaussian_layer(name: str, scene: Gaussians | GaussianLodTree) -> Layer:
    part = scene.cells[0].gaussians if isinstance(scene, GaussianLodTree) else scene
    return Layer(name, "gaussians", scene, part.frame)


def _open_gaussians(path: Path, name: str, drop_invalid: bool) -> Layer:
    scene, info = read_gaussian_file(path, drop_invalid=drop_invalid)
    layer = _gaussian_layer(name, scene)
    layer.info, layer.notes = info, read_view_notes(path)
    if layer.notes is None and info.axes is not None:
        x, y, z = up_direction(info.axes).tolist()
        layer.notes = ViewNotes((x, y, z))
    return layer


def _open_gaussian_folder(path: Path) -> Iterator[Layer]:
    yield _open_gaussians(path, path.name, False)


def _is_gaussian_folder(path: Path) -> bool:
    index = find_gaussian_file(path)
    return index is not None and sniff_format(index) is not None


def _open_ply(path: Path, name: str, drop_invalid: bool) -> Layer:
    columns = read_ply_vertices(path, "xyz")
    if all(prop in columns for prop in _GAUSSIAN_PROPERTIES):
        return _open_gaussians(path, name, drop_invalid)
    frame = read_frame_of(path)
    with open(path, "rb") as file:
        head = file.read(1 << 14).split(b"end_header")[0]
    if b"element face" in head:
        return Layer(name, "mesh", read_mesh(path, process=False), frame)
    points = read_point_ply(path)
    return Layer(name, "points", (points.xyz, points.rgb), frame)


def _open_mesh(path: Path, name: str, drop_invalid: bool) -> Iterator[Layer]:
    if path.suffix.lower() in (".glb", ".gltf"):
        try:
            yield _open_gaussians(path, name, drop_invalid)
            return
        except NoGaussiansError:
            pass  # a mesh or points, which trimesh reads
    frame, scene = read_frame_of(path), read_mesh(path, force="scene")
    turn = axes_of_scene(path)
    with damage_told(path, "a mesh or points", MeshFileError):
        if scene.geometry:  # trimesh cannot turn a scene of nothing
            scene.apply_transform(turn)
        parts = scene.dump()
    frame = frame and frame.moved(Sim3.from_matrix(torch.from_numpy(turn)))
    for number, geometry in enumerate(parts):
        part = name if len(scene.geometry) == 1 else f"{name}/{number}"
        if isinstance(geometry, trimesh.Trimesh):
            yield Layer(part, "mesh", geometry, frame)
        elif isinstance(geometry, trimesh.PointCloud):
            rgba = np.asarray(geometry.colors)
            if rgba.ndim != 2 or len(rgba) != len(geometry.vertices):
                rgba = np.full((len(geometry.vertices), 3), 160, np.uint8)
            xyz = np.asarray(geometry.vertices)
            yield Layer(part, "points", (xyz, rgba[:, :3].astype(np.uint8)), frame)


def _open_json(path: Path, name: str) -> Iterator[Layer]:
    content = read_json(path)
    if isinstance(content, dict) and "root" in content and "asset" in content:
        tree, info = read_tileset_file(path)
        layer = _gaussian_layer(path.parent.name, tree)
        layer.info = info
        yield layer
    elif isinstance(content, dict) and "queries" in content:
        frame = content.get("frame")
        frame = None if frame is None else SceneFrame.from_dict(frame, path)
        yield Layer(name, "localization", content["queries"], frame)


def _open_trajectory(path: Path) -> Trajectory:
    try:
        return Trajectory.read_tum(path)
    except TrajectoryFormatError as first:
        try:
            return Trajectory.read_kitti(path)
        except TrajectoryFormatError as second:
            raise UnknownFileError(
                f"{path}: expected lines of a trajectory; as TUM: {first}; as KITTI: {second}"
            ) from second


def _open_folder(path: Path, drop_invalid: bool, failures: ItemFailures) -> Iterator[Layer]:
    other: list[Path] = []
    yield from _open_contents(path, drop_invalid, failures, other, {path.resolve()})
    if other:
        suffixes = sorted({file.suffix or file.name for file in other})
        shown = ", ".join(suffixes[:8]) + (", ..." if len(suffixes) > 8 else "")
        print_log(f"{path}: passed over {len(other)} files of other kinds ({shown})", "current")


def _open_contents(
    path: Path, drop_invalid: bool, failures: ItemFailures, other: list[Path], seen: set[Path]
) -> Iterator[Layer]:
    """Layers of all that lies in a folder; files of other kinds are added to ``other``."""
    for is_kind, reader in _FOLDERS:
        if is_kind(path):
            yield from reader(path)
            return
    things: dict[str, list[Path]] = {}
    for file in visible(sorted(path.iterdir())):
        if file.is_dir():
            if file.resolve() not in seen:  # links may lead back
                seen.add(file.resolve())
                found: list[Layer] = []
                with failures.item(str(file)):
                    found += _open_contents(file, drop_invalid, failures, other, seen)
                yield from found
        elif file.name in _SCENE_FILES:
            things[file.name] = [file]
        elif file.suffix.lower() in _SCENE_SUFFIXES:
            things.setdefault(file.stem, []).append(file)
        else:
            other.append(file)
    for files in things.values():
        layers: list[Layer] = []
        for file in sorted(files, key=_rank):
            with failures.item(str(file)):
                layers += _open_file(file, drop_invalid)
            if layers:
                break
        else:
            other += files
        yield from layers


def _rank(file: Path) -> int:
    """Place among the files of one name; less comes first."""
    return (*_SCENE_SUFFIXES, "").index(file.suffix.lower() * (file.name not in _SCENE_FILES))


def _open_scene(dataset_type: Callable[..., Any]) -> Callable[[Path], Iterator[Layer]]:
    def read(path: Path) -> Iterator[Layer]:
        scene = dataset_type(path, split="all", missing_images="skip", undistort=True,
                             require_points=False)  # fmt: skip
        paths = [image.path for image in scene.images]
        yield Layer(f"{path.name}/cameras", "cameras", (scene.all_cameras, paths), scene.frame)
        if len(scene.points3D):
            points = scene.points3D
            yield Layer(f"{path.name}/points", "points", (points.xyz, points.rgb), scene.frame)

    return read


def _colmap(path: Path) -> Iterator[Layer]:
    from mmcity.datasets import ColmapDataset

    try:
        yield from _open_scene(ColmapDataset)(path)
    except FileNotFoundError:  # a model without its pictures
        folder = find_colmap_model(path)
        model, frame = read_colmap_model(folder, require_points=False), frame_of_model(folder)
        yield Layer(f"{path.name}/cameras", "cameras", (model.pinhole_cameras(), None), frame)
        if len(model.points3D):
            points = (model.points3D.xyz, model.points3D.rgb)
            yield Layer(f"{path.name}/points", "points", points, frame)


def _nerfstudio(path: Path) -> Iterator[Layer]:
    from mmcity.datasets import NerfstudioDataset

    yield from _open_scene(NerfstudioDataset)(path)


def _is_colmap(path: Path) -> bool:
    try:
        find_colmap_model(path)
    except FileNotFoundError:
        return False
    return True


def _occupancy(path: Path) -> Iterator[Layer]:
    yield Layer(path.name, "occupancy", open_occupancy_folder(path))


#: How a folder is recognised, and how it is read; the first that fits counts.
_FOLDERS: tuple[tuple[Callable[[Path], bool], Callable[[Path], Iterator[Layer]]], ...] = (
    (lambda p: (p / "tileset.json").is_file(), lambda p: _open_file(p / "tileset.json")),
    (_is_gaussian_folder, _open_gaussian_folder),
    (_is_colmap, _colmap),
    (lambda p: any(p.glob("transforms*.json")), _nerfstudio),
    (is_occupancy_folder, _occupancy),
)
