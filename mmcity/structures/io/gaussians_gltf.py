"""Gaussians of glTF files with the extension ``KHR_gaussian_splatting``, plain or as SPZ.

Viewers that know the extension draw splats; all others see a coloured point cloud. Values are
stored as the extension wants them: positions and unit quaternions (xyzw), linear scales,
opacities in [0, 1], SH coefficients by degree. Files of 2025 hold logarithms of scales.
"""

import os
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import print_log

from mmcity.structures.axes import UP_AXES, convert_axes
from mmcity.structures.bounds import robust_bounds
from mmcity.structures.gaussians import Gaussians
from mmcity.structures.scene_frame import SceneFrame
from mmcity.structures.sim3 import Sim3
from mmcity.structures.splat_info import SplatInfo
from mmcity.structures.world_offset import world_offset
from mmcity.utils.checks import check_choice
from mmcity.utils.fileio import damage_told

from .gaussian_format import GaussianFileError, GaussianFormat, for_writing, keep_valid
from .glb import GENERATOR, GlbBuilder, GlbFormatError, get_frame, read_gltf
from .gltf_primitives import (
    COLOR_SPACES,
    INFO_KEY,
    add_attributes,
    add_packed,
    info_of,
    read_primitive,
    tell_nothing_found,
)
from .gltf_scene import EXTENSION, SPZ_EXTENSIONS, UP_KEY, Y_TO_Z_UP, find_primitives, y_up

#: Share of their size to which the places of Gaussians have to be resolved.
_RESOLVED = 0.01
#: What is told of old files.
LOGARITHMS = (
    "scales are logarithms, as KHR_gaussian_splatting had them in 2025; they are read as such: "
    "export the scene again for other viewers"
)


def write_gaussians_glb(
    gaussians: Gaussians,
    path: str | os.PathLike,
    up: str | None = None,
    center: bool = True,
    *,
    info: SplatInfo | None = None,
    compress: str | None = None,
) -> SplatInfo:
    """Write Gaussians as binary glTF.

    Args:
        gaussians (Gaussians): At least one, with SH or three features as colour.
        path: Moved into place when whole.
        up (str, optional): Axis of the world that points up: ``z`` (metric and georeferenced
            worlds), ``y``, or ``-y`` (COLMAP without alignment). Defaults to None: by the axes of
            ``info``, else ``z``.
        center (bool): Store positions relative to their middle, which keeps digits where the
            world's origin is far. Defaults to True.
        info: Model, axes and colour space of the Gaussians. Defaults to None: not known.
        compress (str, optional): ``spz``, a tenth of the bytes: other viewers then need the
            extension. Defaults to None.

    Returns:
        What the file says, and what it could not hold.

    Raises:
        ValueError: If there is no Gaussian or no colour, or values are not finite.
    """
    check_choice("compress", compress, (None, "spz"))
    axes = None if info is None else info.axes
    if up is None and axes is not None:
        up = {name: axis for axis, name in UP_AXES.items()}.get(axes)
        if up is None:
            up, gaussians = "y", convert_axes(gaussians, axes, UP_AXES["y"])
    up = up or "z"
    to_gltf = y_up(up)
    g, sh, said = for_writing(gaussians, path, info, holds_axes=True)
    middle = np.zeros(3)
    if center:
        middle = robust_bounds(g.means, g.opacities).mean(0).numpy()
    builder = GlbBuilder()
    node: dict[str, Any] = {"mesh": 0}
    own: dict[str, Any] = {
        "kernel": "ellipse",
        "colorSpace": COLOR_SPACES[said.color_space],
        "sortingMethod": "cameraDistance",
        "projection": "perspective",
    }
    required: list[str] = []
    about = g.means.double().numpy() - middle
    shift = np.eye(4)
    shift[:3, 3] = middle
    place = to_gltf @ shift
    if compress is None:
        g.means = torch.from_numpy(about.astype(np.float32))
        attributes = add_attributes(builder, g, sh, said.color_space == "linear")
    else:  # viewers of SPZ turn nothing: axes are glTF's, and the node only moves
        g.means, g.frame = torch.from_numpy(about), None
        g = g.transform(Sim3(rotation=torch.from_numpy(to_gltf[:3, :3])))
        attributes, lost = add_packed(builder, g, path, said)
        said = replace(said, lost=said.lost + lost)
        place[:3, :3] = np.eye(3)
        own["extensions"] = {SPZ_EXTENSIONS[0]: {"bufferView": 0}}
        required = [EXTENSION, SPZ_EXTENSIONS[0]]
    node["matrix"] = place.T.ravel().tolist()  # CesiumJS 1.145 reads no translation of splats
    primitive = {"attributes": attributes, "mode": 0, "extensions": {EXTENSION: own}}
    noted = {"up": up, "model": said.model, "scales": "linear"}
    content = {
        "asset": {"version": "2.0", "generator": GENERATOR, "extras": {INFO_KEY: noted}},
        "extensionsUsed": required or [EXTENSION],
        **({"extensionsRequired": required} if required else {}),
        "extras": {UP_KEY: up},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [node],
        "meshes": [{"primitives": [primitive]}],
    }
    builder.write(path, content, gaussians.frame)
    name = GLB.name if compress is None else f"{GLB.name} with {compress}"
    return replace(said, axes=UP_AXES[up], format=name, generator=GENERATOR)


def read_gaussians_glb(
    path: str | os.PathLike,
    up: str | None = None,
    drop_invalid: bool = False,
    tile: np.ndarray | None = None,
) -> Gaussians:
    """Gaussians of :func:`read_gaussians_gltf` alone."""
    return read_gaussians_gltf(path, up, drop_invalid, tile)[0]


def read_gaussians_gltf(
    path: str | os.PathLike,
    up: str | None = None,
    drop_invalid: bool = False,
    tile: np.ndarray | None = None,
) -> tuple[Gaussians, SplatInfo]:
    """Read all Gaussians of a glTF file, where its nodes place them.

    Scales that are logarithms, as in files of 2025, are told by a negative one, or by a file of
    this toolbox that does not say that they are linear; one warning tells so.

    Args:
        path: ``.glb`` or ``.gltf`` file with the extension ``KHR_gaussian_splatting``, plain or
            compressed as SPZ.
        up (str, optional): Axis that points up in the world to return. Defaults to what a
            file of :func:`write_gaussians_glb` notes, else ``y``.
        drop_invalid: Leave out Gaussians whose values are not finite. Defaults to False.
        tile: ``(4, 4)`` place of the 3D tile whose content the file is, in the axes of tiles
            (z up). Defaults to None.

    Returns:
        The Gaussians, and what the file says of them; ``extras["scales"]`` is ``logarithmic``
        where they were. Of a tile nothing is told.

    Raises:
        FileNotFoundError: If there is no such file.
        NoGaussiansError: If it is a glTF file of other things.
        GaussianFileError: If it is broken, requires an extension that is not read, or its nodes
            stretch Gaussians unevenly.
    """
    try:
        with damage_told(path, "a glTF file of Gaussians", GaussianFileError):
            document, buffers = read_gltf(path)
            found = list(find_primitives(document, path))
            if not found:
                tell_nothing_found(document, path)
            extras = document.get("extras", {})
            noted = extras.get(UP_KEY, "y")
            axis = up or noted
            frame = get_frame(document, path)
            if frame is not None and axis != noted:  # it speaks of the axes as they were written
                turn = np.linalg.inv(y_up(axis)) @ y_up(noted)
                frame = frame.moved(Sim3.from_matrix(torch.from_numpy(turn)))
            to_world = np.linalg.inv(y_up(axis))
            if tile is not None:
                to_world = to_world @ Y_TO_Z_UP.T @ tile @ Y_TO_Z_UP
            stored = [(m, read_primitive(document, buffers, p, path)) for m, p in found]
            info = info_of(document, [part for _, part in stored], UP_AXES[axis], path)
            if info.extras.get("scales") == "logarithmic":
                for _, part in stored:
                    part.gaussians.scales = part.scales_as_logarithms
                if tile is None:
                    print_log(f"{path}: {LOGARITHMS}", "current", 30)
            places = [(matrix, part.gaussians) for matrix, part in stored]
            offset = np.zeros(3) if tile is not None else _offset(places, to_world)
            if offset.any():
                frame = (frame or SceneFrame()).shifted(offset)
                to_world[:3, 3] -= offset
            parts = [placed(part, to_world @ matrix, path) for matrix, part in places]
    except GlbFormatError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise GaussianFileError(f"{path}: {reason}") from error
    whole = parts[0] if len(parts) == 1 else joined(parts)
    whole.frame = frame
    return keep_valid(whole, path, drop_invalid), info


def _offset(stored: list[tuple[np.ndarray, Gaussians]], to_world: np.ndarray) -> np.ndarray:
    """Part ``(3,)`` of the places of Gaussians without which single precision shows them.

    Zero where it resolves a hundredth of their own size, which is so but far from the origin.
    """
    places, sizes = [], []
    for matrix, part in stored:
        whole = to_world @ matrix
        places.append(part.means.double().numpy() @ whole[:3, :3].T + whole[:3, 3])
        stretch = np.cbrt(abs(np.linalg.det(whole[:3, :3])))
        sizes.append(part.scales.amax(1).double().numpy() * stretch)
    xyz, size = np.concatenate(places), np.concatenate(sizes)
    known = np.isfinite(xyz).all(1) & np.isfinite(size)
    if not known.any():
        return np.zeros(3)
    middle = np.median(xyz[known], axis=0)
    spacing = np.finfo(np.float32).eps * abs(middle).max()
    if spacing <= _RESOLVED * np.median(size[known]):
        return np.zeros(3)
    return world_offset(xyz[known], np.zeros((0, 3)))[0]


def placed(gaussians: Gaussians, to_world: np.ndarray, path: str | os.PathLike) -> Gaussians:
    """Gaussians carried by a ``(4, 4)`` matrix, which has to be a similarity."""
    if np.allclose(to_world, np.eye(4), atol=1e-12):
        return gaussians
    if np.allclose(to_world[:3, :3], np.eye(3), atol=1e-12):
        gaussians.means = (gaussians.means.double() + torch.from_numpy(to_world[:3, 3])).float()
        return gaussians
    gram = to_world[:3, :3] @ to_world[:3, :3].T
    even = np.trace(gram) / 3
    if np.linalg.det(to_world[:3, :3]) <= 0 or np.abs(gram - even * np.eye(3)).max() > 1e-4 * even:
        raise GaussianFileError(
            f"{path}: expected nodes that turn, move and scale evenly, got the matrix "
            f"{to_world[:3, :3].round(4).tolist()}: apply it to the Gaussians first"
        )
    return gaussians.transform(Sim3.from_matrix(torch.from_numpy(to_world)))


def joined(parts: list[Gaussians]) -> Gaussians:
    """One set; SH that a part has not are 0."""
    tables = [part.shN for part in parts if part.shN is not None]
    rows = max(table.shape[1] for table in tables)
    for part, table in zip(parts, tables):
        part.shN = F.pad(table, (0, 0, 0, rows - table.shape[1]))
    return Gaussians.cat(parts)


def _load(path: str | os.PathLike, drop_invalid: bool = False) -> tuple[Gaussians, SplatInfo]:
    return read_gaussians_gltf(path, drop_invalid=drop_invalid)


GLB = GaussianFormat(
    "glb", (".glb",), _load, write_gaussians_glb, lambda _, head: head.startswith(b"glTF")
)
GLTF = GaussianFormat("gltf", (".gltf",), _load)
