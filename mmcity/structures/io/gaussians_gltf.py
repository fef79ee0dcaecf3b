"""Gaussians in binary glTF, with the extension ``KHR_gaussian_splatting``.

Viewers that know the extension draw splats; all others see a coloured point cloud. Values
are stored as the extension wants them: positions and unit quaternions (xyzw), logarithms of
scales, opacities in [0, 1], SH coefficients by degree.
"""

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mmcity.structures.axes import UP_AXES, axes_matrix
from mmcity.structures.bounds import robust_bounds
from mmcity.structures.gaussians import Gaussians
from mmcity.structures.geometry import quat_to_rotmat
from mmcity.structures.scene_frame import SceneFrame
from mmcity.structures.sim3 import Sim3
from mmcity.structures.spherical_harmonics import SH_C0, sh_degree_of
from mmcity.structures.splat_info import SplatInfo
from mmcity.structures.world_offset import world_offset
from mmcity.utils.checks import check_choice
from mmcity.utils.fileio import damage_told

from .gaussian_format import GaussianFileError, GaussianFormat, color_coefficients, keep_valid
from .glb import GlbBuilder, GlbFormatError, get_frame, read_accessor, read_glb_container

EXTENSION = "KHR_gaussian_splatting"
#: Extensions that a file may require.
READ_EXTENSIONS = frozenset({EXTENSION, "KHR_mesh_quantization"})
#: From glTF's axes (y up) to those of 3D Tiles (z up), as viewers apply to the content.
Y_TO_Z_UP = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
#: Where a file notes which axis of its scene became glTF's y.
UP_KEY = "mmcity_up"
#: Share of their size to which the places of Gaussians have to be resolved.
_RESOLVED = 0.01
_IDENTITY = np.eye(4).ravel().tolist()


class NoGaussiansError(GaussianFileError):
    """A glTF file is whole, but holds other things than Gaussians."""


def y_up(up: str) -> np.ndarray:
    """``(4, 4)`` matrix from a world with that axis up to glTF's.

    Raises:
        ValueError: If the axis is not of ``UP_AXES``.
    """
    check_choice("up", up, UP_AXES)
    matrix = np.eye(4)
    matrix[:3, :3] = axes_matrix(UP_AXES[up], "RUB")
    return matrix


def write_gaussians_glb(
    gaussians: Gaussians,
    path: str | os.PathLike,
    up: str = "z",
    center: bool = True,
    *,
    info: SplatInfo | None = None,
) -> SplatInfo:
    """Write Gaussians as binary glTF.

    Args:
        gaussians (Gaussians): At least one, with SH or three features as colour.
        path: Moved into place when whole.
        up (str): Axis of the world that points up: ``z`` (metric and georeferenced worlds),
            ``y``, or ``-y`` (COLMAP without alignment). Defaults to ``z``.
        center (bool): Store positions relative to their middle, which keeps digits where the
            world's origin is far. Defaults to True.

    Raises:
        ValueError: If there is no Gaussian or no colour, or values are not finite.
    """
    matrix = y_up(up)
    g = keep_valid(gaussians.detach().to("cpu", torch.float32), path)
    sh = color_coefficients(g, "write_gaussians_glb")
    if not len(g):
        raise ValueError(f"{path}: expected at least one Gaussian, got none")
    middle = torch.zeros(3, dtype=torch.float64)
    if center:
        middle = robust_bounds(g.means, g.opacities).mean(0)
    rgba = torch.cat([0.5 + SH_C0 * sh[:, 0], g.opacities[:, None]], 1)
    builder = GlbBuilder()
    attributes = {
        "POSITION": builder.add((g.means.double() - middle).float().numpy(), bounds=True),
        "COLOR_0": builder.add(
            (rgba * 255).round().clamp(0, 255).to(torch.uint8).numpy(), normalized=True
        ),
        f"{EXTENSION}:ROTATION": builder.add(F.normalize(g.quats, dim=-1)[:, [1, 2, 3, 0]].numpy()),
        f"{EXTENSION}:SCALE": builder.add(
            g.scales.clamp_min(torch.finfo(torch.float32).tiny).log().numpy()
        ),
        f"{EXTENSION}:OPACITY": builder.add(g.opacities.numpy()),
    }
    for degree in range(sh_degree_of(sh.shape[1]) + 1):
        for row in range(2 * degree + 1):
            attributes[_sh_name(degree, row)] = builder.add(sh[:, degree**2 + row].numpy())
    shift = np.eye(4)
    shift[:3, 3] = middle.numpy()
    primitive = {
        "attributes": attributes,
        "mode": 0,
        "extensions": {
            EXTENSION: {
                "kernel": "ellipse",
                "colorSpace": "srgb_rec709_display",
                "sortingMethod": "cameraDistance",
                "projection": "perspective",
            }
        },
    }
    node = {"mesh": 0, "matrix": (matrix @ shift).T.ravel().tolist()}
    content = {
        "extensionsUsed": [EXTENSION],
        "extras": {UP_KEY: up},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [node],
        "meshes": [{"primitives": [primitive]}],
    }
    builder.write(path, content, g.frame)
    return SplatInfo(format=GLB.name, sh_degree=sh_degree_of(sh.shape[1]))


def read_gaussians_glb(
    path: str | os.PathLike,
    up: str | None = None,
    drop_invalid: bool = False,
    tile: np.ndarray | None = None,
) -> Gaussians:
    """Read all Gaussians of a binary glTF file, where its nodes place them.

    Args:
        path: File with the extension ``KHR_gaussian_splatting``, uncompressed.
        up (str, optional): Axis that points up in the world to return. Defaults to what a
            file of :func:`write_gaussians_glb` notes, else ``y``.
        drop_invalid: Leave out Gaussians whose values are not finite. Defaults to False.
        tile: ``(4, 4)`` place of the 3D tile whose content the file is, in the axes of tiles
            (z up). Defaults to None.

    Raises:
        FileNotFoundError: If there is no such file.
        NoGaussiansError: If it is a glTF file of other things.
        GaussianFileError: If it is broken, requires an extension that is not read, or its nodes
            stretch Gaussians unevenly.
    """
    try:
        with damage_told(path, "a glTF file of Gaussians", GaussianFileError):
            document, binary = read_glb_container(path)
            found = list(_find_primitives(document, path))
            if not found:
                raise NoGaussiansError(
                    f"{path}: expected a primitive with {EXTENSION}, got extensions "
                    f"{document.get('extensionsUsed', [])}"
                )
            noted = document.get("extras", {}).get(UP_KEY, "y")
            axis = up or noted
            frame = get_frame(document, path)
            if frame is not None and axis != noted:  # it speaks of the axes as they were written
                turn = np.linalg.inv(y_up(axis)) @ y_up(noted)
                frame = frame.moved(Sim3.from_matrix(torch.from_numpy(turn)))
            to_world = np.linalg.inv(y_up(axis))
            if tile is not None:
                to_world = to_world @ Y_TO_Z_UP.T @ tile @ Y_TO_Z_UP
            stored = [(m, _read_primitive(document, binary, names, path)) for m, names in found]
            offset = np.zeros(3) if tile is not None else _offset(stored, to_world)
            if offset.any():
                frame = (frame or SceneFrame()).shifted(offset)
                to_world[:3, 3] -= offset
            parts = [_placed(part, to_world @ matrix, path) for matrix, part in stored]
    except GlbFormatError as error:
        raise GaussianFileError(f"{path}: {error}") from error
    whole = parts[0] if len(parts) == 1 else _joined(parts)
    whole.frame = frame
    return keep_valid(whole, path, drop_invalid)


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


def _read_primitive(
    document: dict[str, Any], binary: bytes, attributes: dict[str, int], path: str | os.PathLike
) -> Gaussians:
    values = {
        name: torch.from_numpy(read_accessor(document, binary, number).astype(np.float32))
        for name, number in attributes.items()
    }
    names = ["POSITION", *(f"{EXTENSION}:{n}" for n in ("ROTATION", "SCALE", "OPACITY"))]
    missing = [name for name in (*names, _sh_name(0, 0)) if name not in values]
    if missing:
        raise GaussianFileError(f"{path}: expected the attributes {missing}, got {list(values)}")
    means, rotations, scales, opacities = (values[name] for name in names)
    degree = 0
    while _sh_name(degree + 1, 0) in values and degree < 4:
        degree += 1
    coefficients = [values[_sh_name(d, row)] for d in range(degree + 1) for row in range(2 * d + 1)]
    table = torch.stack(coefficients, 1)
    return Gaussians(
        means=means,
        quats=rotations[:, [3, 0, 1, 2]],
        scales=scales.exp(),
        opacities=opacities[:, 0],
        sh0=table[:, :1],
        shN=table[:, 1:],
    )


def _placed(gaussians: Gaussians, to_world: np.ndarray, path: str | os.PathLike) -> Gaussians:
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


def _joined(parts: list[Gaussians]) -> Gaussians:
    """One set; SH that a part has not are 0."""
    tables = [part.shN for part in parts if part.shN is not None]
    rows = max(table.shape[1] for table in tables)
    for part, table in zip(parts, tables):
        part.shN = F.pad(table, (0, 0, 0, rows - table.shape[1]))
    return Gaussians.cat(parts)


def _sh_name(degree: int, row: int) -> str:
    return f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{row}"


def _find_primitives(
    document: dict[str, Any], path: str | os.PathLike
) -> Iterator[tuple[np.ndarray, dict[str, int]]]:
    """Place ``(4, 4)`` in the scene, and attributes, of each primitive of Gaussians."""
    check_extensions(document, path)
    try:
        nodes = document.get("nodes", [])
        below = {child for node in nodes for child in node.get("children", [])}
        roots = [number for number in range(len(nodes)) if number not in below]
        if document.get("scenes"):
            roots = document["scenes"][document.get("scene", 0)].get("nodes", [])
        todo = [(number, np.eye(4)) for number in reversed(roots)]
        visited: set[int] = set()
        while todo:
            number, above = todo.pop()
            if number in visited:
                raise GlbFormatError(f"node {number}: expected one parent, got several")
            visited.add(number)
            node = nodes[number]
            matrix = above @ _node_matrix(node, path)
            todo += [(child, matrix) for child in reversed(node.get("children", []))]
            mesh = document["meshes"][node["mesh"]] if "mesh" in node else {"primitives": []}
            for primitive in mesh["primitives"]:
                if EXTENSION in primitive.get("extensions", {}):
                    _refuse_packed(primitive, path)
                    yield matrix, primitive["attributes"]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise GlbFormatError(f"expected meshes, got broken ones: {error!r}") from error


def check_extensions(document: dict[str, Any], path: str | os.PathLike) -> None:
    """Refuse a glTF file that cannot be understood without an extension that is not read.

    Raises:
        GaussianFileError: If it requires one, or is of another version; names it.
    """
    version = str(document.get("asset", {}).get("version", "2.0"))
    if version.split(".")[0] != "2":
        raise GaussianFileError(f"{path}: expected glTF 2, got version {version}: export version 2")
    unknown = sorted(set(document.get("extensionsRequired", [])) - READ_EXTENSIONS)
    if unknown:
        raise GaussianFileError(
            f"{path}: expected no required extension but {', '.join(sorted(READ_EXTENSIONS))}, got "
            f"{', '.join(map(str, unknown))}: export the file without it"
        )


def _refuse_packed(primitive: dict[str, Any], path: str | os.PathLike) -> None:
    packed = [*primitive["extensions"][EXTENSION].get("extensions", {})]
    packed += [name for name in primitive["extensions"] if name.startswith(f"{EXTENSION}_")]
    if packed:
        raise GaussianFileError(
            f"{path}: expected uncompressed Gaussians, got {', '.join(packed)}: export the file "
            "without compression, or as PLY"
        )


def _node_matrix(node: dict[str, Any], path: str | os.PathLike) -> np.ndarray:
    """Place of a node below its parent, from a matrix or from its parts."""
    numbers = [
        node.get("matrix", _IDENTITY),
        node.get("translation", [0.0, 0.0, 0.0]),
        node.get("rotation", [0.0, 0.0, 0.0, 1.0]),
        node.get("scale", [1.0, 1.0, 1.0]),
    ]
    counts = [len(part) for part in numbers]
    if counts != [16, 3, 4, 3] or not all(math.isfinite(n) for part in numbers for n in part):
        raise GaussianFileError(f"{path}: expected a node with finite numbers, got {numbers}")
    matrix = np.array(numbers[0], dtype=np.float64).reshape(4, 4).T
    x, y, z, w = numbers[2]
    parts = np.eye(4)
    parts[:3, :3] = quat_to_rotmat(np.array([w, x, y, z])) * np.array(numbers[3])
    parts[:3, 3] = numbers[1]
    return matrix @ parts


def _load_glb(path: str | os.PathLike, drop_invalid: bool = False) -> tuple[Gaussians, SplatInfo]:
    gaussians = read_gaussians_glb(path, drop_invalid=drop_invalid)
    return gaussians, SplatInfo(format=GLB.name, sh_degree=gaussians.sh_degree or 0)


GLB = GaussianFormat(
    "glb", (".glb",), _load_glb, write_gaussians_glb, lambda _, head: head.startswith(b"glTF")
)
