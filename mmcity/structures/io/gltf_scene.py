"""Scenes of glTF files: what they require, and where their nodes place Gaussians."""

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from mmcity.structures.axes import UP_AXES, axes_matrix
from mmcity.structures.geometry import quat_to_rotmat
from mmcity.utils.checks import check_choice

from .gaussian_format import GaussianFileError
from .glb import GlbFormatError

EXTENSION = "KHR_gaussian_splatting"
#: Names that SPZ within glTF has had, the present one first.
SPZ_EXTENSIONS = (
    f"{EXTENSION}_compression_spz_2",
    f"{EXTENSION}_compression_spz",
    "KHR_spz_gaussian_splats_compression",
)
#: Extensions that a file may require.
READ_EXTENSIONS = frozenset({EXTENSION, *SPZ_EXTENSIONS, "KHR_mesh_quantization"})
_IDENTITY = np.eye(4).ravel().tolist()
#: From glTF's axes (y up) to those of 3D Tiles (z up), as viewers apply to the content.
Y_TO_Z_UP = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
#: Where a file notes which axis of its scene became glTF's y.
UP_KEY = "mmcity_up"


def y_up(up: str) -> np.ndarray:
    """``(4, 4)`` matrix from a world with that axis up to glTF's.

    Raises:
        ValueError: If the axis is not of ``UP_AXES``.
    """
    check_choice("up", up, UP_AXES)
    matrix = np.eye(4)
    matrix[:3, :3] = axes_matrix(UP_AXES[up], "RUB")
    return matrix


def find_primitives(
    document: dict[str, Any], path: str | os.PathLike
) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Place ``(4, 4)`` in the scene of each primitive of Gaussians, and the primitive.

    Raises:
        GaussianFileError: If the file requires an extension that is not read.
        GlbFormatError: If its nodes are broken.
    """
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
                if not {EXTENSION, *SPZ_EXTENSIONS}.isdisjoint(primitive.get("extensions", {})):
                    yield matrix, primitive
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise GlbFormatError(f"expected meshes, got broken ones: {error!r}") from error


def check_extensions(document: dict[str, Any], path: str | os.PathLike) -> None:
    """Refuse a glTF file that cannot be understood without an extension that is not read.

    Raises:
        GaussianFileError: If it requires one, or is of another version; names it.
    """
    asset = document.get("asset", {})
    version = str(asset.get("version", "2.0"))
    least = str(asset.get("minVersion", "2.0"))
    if least != "2.0":
        raise GaussianFileError(
            f"{path}: expected a file that a reader of glTF 2.0 understands, got one that needs "
            f"{least}: export version 2.0"
        )
    if version.split(".")[0] != "2":
        raise GaussianFileError(f"{path}: expected glTF 2, got version {version}: export version 2")
    unknown = sorted(set(document.get("extensionsRequired", [])) - READ_EXTENSIONS)
    if unknown:
        remedy = "export the file without it"
        if any("draco" in str(name) for name in unknown):
            remedy += " (`npx @gltf-transform/cli copy FILE PLAIN.glb` decodes it)"
        raise GaussianFileError(
            f"{path}: expected no required extension but {', '.join(sorted(READ_EXTENSIONS))}, got "
            f"{', '.join(map(str, unknown))}: {remedy}"
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
