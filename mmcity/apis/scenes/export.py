"""Scenes from one format to another."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from mmcity.datasets import NerfstudioDataset
from mmcity.datasets.io.colmap_model import (
    find_colmap_model,
    frame_of_model,
    read_colmap_model,
    write_colmap_model,
)
from mmcity.datasets.io.occ3d_writer import write_occ3d
from mmcity.datasets.io.splat_cameras import read_cameras_json, write_cameras_json
from mmcity.datasets.nerfstudio import TRANSFORMS_FILES
from mmcity.datasets.scene_export import to_colmap_model, write_transforms_json
from mmcity.structures import SceneFrame, read_frame, read_gaussian_file, stamp_frame, write_frame
from mmcity.structures.io.gaussian_files import find_gaussian_file
from mmcity.structures.io.gaussians_gltf import y_up
from mmcity.structures.io.mesh_files import write_mesh
from mmcity.structures.scene_frame import FRAME_FILE
from mmcity.structures.world_offset import world_offset
from mmcity.utils.cli import UserError
from mmcity.utils.fileio import atomic_path
from mmcity.visualization.occupancy_mesh import occupancy_mesh
from mmcity.visualization.viewer import Layer
from mmcity.visualization.voxel_tiles import write_voxel_glb, write_voxel_tileset

from .export_gaussians import ExportedScene, export_gaussians
from .layers import read_layers

#: Cameras of 3D Gaussian Splatting.
CAMERAS = "cameras.json"


def export_scene(
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    config: str | os.PathLike | None = None,
    level: int | None = None,
    up: str | None = None,
    assume_axes: str | None = None,
    to_axes: str | None = None,
    sh: int | None = None,
    antialiased: bool | None = None,
    georeference: tuple[float, float, float] | None = None,
    max_per_cell: int = 20_000,
    frame: int = 0,
    sh_bits: int | None = None,
    spz_version: int | None = None,
    lod: int = 0,
    drop_invalid: bool = False,
    occ3d: str = "nuscenes",
    compress: str | None = None,
    title: str | None = None,
) -> ExportedScene:
    """Convert a scene to another format, which the name of the target chooses.

    Gaussians: all formats of ``WRITABLE_SUFFIXES``, such as ``.ply``, ``.spz``, ``.sog`` and
    ``.glb``, ``meta.json`` (a SOG folder), ``lod-meta.json`` (streamed SOG) and 3D Tiles
    (``tileset.json`` or a folder), of all that can be read, see ``GAUSSIAN_SUFFIXES``; a
    checkpoint with its config is a source too, and ``.html`` a target: one file that shows the
    scene without a network. Strays, far out and nearly transparent, are left out and counted.
    Cameras and points: COLMAP scene or model to and from Nerfstudio, and ``cameras.json`` of 3D
    Gaussian Splatting. Meshes and point clouds:
    ``.ply``, ``.obj``, ``.glb``, ``.stl``. Occupancy: ``.npz`` to meshes, to voxels of glTF
    (``.voxels.glb``) and of 3D Tiles (``tileset.json``; of a clip ``index.json``), and to a folder
    as Occ3D lays it out.

    Args:
        source: File or folder.
        target: File or folder.
        config: Config of a checkpoint. Defaults to None.
        level: Of a CityGS-X checkpoint: coarsest levels up to this one. Defaults to None: all.
        up: Axis of the world that points up, ``z``, ``y`` or ``-y``, for glTF, 3D Tiles, SPZ and
            pages. Defaults to None: by the axes that the source says, else ``z``.
        assume_axes: Axes of a source that does not say them, such as ``RUB``: the directions of
            +x, +y and +z, Left or Right, Up or Down, Front or Back. Defaults to None: not known.
        to_axes: Axes to turn Gaussians to. Defaults to None: those of the source.
        sh: Highest degree of view-dependent colours, 0 to 4, to keep. Defaults to None: all that
            the format holds.
        antialiased: Note that the scene is, or is not, for an antialiased renderer. Defaults to
            None: as the source or the config of the checkpoint says.
        georeference: Longitude and latitude (degrees) and height (metres) of the origin, for 3D
            Tiles. Defaults to None.
        max_per_cell: Most Gaussians of a tile, or of a leaf of streamed SOG. Defaults to 20,000.
        frame: Of an occupancy clip. Defaults to 0.
        sh_bits: Of view-dependent colours in ``.spz``, 1 to 8; 8 are for 10 dB more of a render
            and half as many bytes again. Defaults to None: 5 and 4, as the format's own tools.
        spz_version: Of ``.spz``: 4, or 3 for viewers without zstd. Defaults to None: 4.
        lod: Level of detail of a source that holds several, 0 is the finest. Defaults to 0.
        drop_invalid: Leave out Gaussians with NaN or infinity, and say how many. Defaults to
            False: they are an error.
        occ3d: Layout of a folder of occupancy, ``nuscenes`` or ``waymo``. Defaults to
            ``nuscenes``.
        compress: ``spz`` or ``none``, of glTF and 3D Tiles. Defaults to None: ``spz`` for 3D
            Tiles, which CesiumJS draws as splats, ``none`` for ``.glb`` files.
        title: Of a page. Defaults to None: the name of the source.

    Raises:
        UserError: If the source cannot be written so, or a checkpoint comes without its config.
    """
    source, target = Path(source), Path(target)
    is_tiles = (source / "tileset.json").is_file()
    is_folder = source.is_dir() and not is_tiles and find_gaussian_file(source) is None
    if target.name in ("transforms.json", CAMERAS) or is_folder or source.name == CAMERAS:
        return _export_cameras(source, target)
    if lod:
        gaussians, info = read_gaussian_file(source, lod=lod, drop_invalid=drop_invalid)
        layers = [Layer(source.name, "gaussians", gaussians, gaussians.frame, info=info)]
    else:
        layers = read_layers([source], config, level, drop_invalid)
    if len(layers) > 1:
        named = [f"{layer.kind} {layer.name}" for layer in layers]
        raise UserError(f"{source}: expected one thing to convert, got {named}")
    kind, data = layers[0].kind, layers[0].data
    if kind == "gaussians":
        return export_gaussians(
            layers[0],
            source,
            target,
            up=up,
            assume_axes=assume_axes,
            to_axes=to_axes,
            sh=sh,
            antialiased=antialiased,
            georeference=georeference,
            max_per_cell=max_per_cell,
            sh_bits=sh_bits,
            spz_version=spz_version,
            compress=compress,
            title=title,
            config=config,
        )
    if assume_axes or to_axes or sh is not None or antialiased is not None or spz_version:
        raise UserError(
            f"{source}: expected options of {kind}, got some of Gaussians: leave them out"
        )
    up = up or "z"
    if kind == "occupancy":
        grid, palette, poses = data
        if not target.suffix:
            files = write_occ3d(grid, target, occ3d)
            return ExportedScene(target, {"frames": len(files)})
        if target.name == "tileset.json":
            index = write_voxel_tileset(grid, target.parent, georeference, poses)
            return ExportedScene(index, {"voxels": grid.labels.numel()})
        if target.name.endswith(".voxels.glb"):
            one = grid if grid.labels.ndim == 3 else grid[frame]
            write_voxel_glb(one, target)
            return ExportedScene(target, {"voxels": one.labels.numel()})
        data = occupancy_mesh(grid if grid.labels.ndim == 3 else grid[frame], palette)
        if poses is not None:  # a mesh of a moving grid lies about its car
            return _export_mesh(data, target, up, None)
    elif kind == "points":
        data = trimesh.PointCloud(*data)
    elif kind != "mesh":
        raise UserError(f"{source}: expected what {target.name} can hold, got {kind}")
    return _export_mesh(data, target, up, layers[0].frame)


def _export_mesh(mesh: Any, target: Path, up: str, frame: SceneFrame | None) -> ExportedScene:
    """A mesh or points; glTF wants y up, the other formats keep the scene's axes.

    Vertices in double precision that lie far from the origin are written about their own.
    """
    mesh = mesh.copy()
    offset, _ = world_offset(np.asarray(mesh.vertices, np.float64), np.zeros((0, 3)))
    if offset.any():
        mesh.apply_translation(-offset)
        frame = (frame or SceneFrame()).shifted(offset)
    if target.suffix.lower() in (".glb", ".gltf"):
        mesh.apply_transform(y_up(up))
    with atomic_path(target) as temporary:
        write_mesh(mesh, temporary)
        stamp_frame(temporary, target, frame, up)
    faces = len(getattr(mesh, "faces", []))
    return ExportedScene(target, {"vertices": len(mesh.vertices), "faces": faces})


def _export_cameras(source: Path, target: Path) -> ExportedScene:
    """COLMAP to Nerfstudio, a Nerfstudio folder to a COLMAP model, cameras of 3DGS both ways."""
    lost: tuple[str, ...] = ()
    if source.name == CAMERAS:
        if target.suffix:
            raise UserError(f"{target}: expected a folder for a COLMAP model, got a file: name one")
        frame, model = read_frame(source.parent), read_cameras_json(source)
        write_colmap_model(model, target)
    elif target.name == CAMERAS:
        folder = find_colmap_model(source)
        frame = frame_of_model(folder)
        model = read_colmap_model(folder, with_tracks=False)
        lost = write_cameras_json(model, target)
    elif target.name == "transforms.json":
        folder = find_colmap_model(source)
        frame = frame_of_model(folder)
        model = read_colmap_model(folder, with_tracks=False)
        write_transforms_json(model, target, source)
    else:
        if not any((source / name).is_file() for name in TRANSFORMS_FILES):
            raise UserError(
                f"{source}: expected a folder with {' or '.join(TRANSFORMS_FILES)} or tileset.json "
                f"for {target.name}, found none; a COLMAP scene goes to OUT/transforms.json"
            )
        dataset = NerfstudioDataset(source, split="all", undistort=True)
        frame = dataset.file_frame
        model = to_colmap_model(dataset)
        write_colmap_model(model, target)
    # Without one to tell, that of an earlier export must go.
    write_frame((target.parent if target.suffix else target) / FRAME_FILE, frame)
    contents = {"images": len(model.images), "points": len(model.points3D)}
    return ExportedScene(target, contents, lost)
