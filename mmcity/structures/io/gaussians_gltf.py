"""Gaussians in binary glTF, with the extension ``KHR_gaussian_splatting``.

Viewers that know the extension draw splats; all others see a coloured point cloud. Values
are stored as the extension wants them: positions and unit quaternions (xyzw), logarithms of
scales, opacities in [0, 1], SH coefficients by degree.
"""

import math
import os
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mmcity.structures.gaussians import Gaussians
from mmcity.structures.sim3 import Sim3
from mmcity.structures.spherical_harmonics import SH_C0, sh_degree_of
from mmcity.utils.checks import check_choice

from .gaussians_ply import GaussianFileError, color_coefficients
from .glb import GlbBuilder, GlbFormatError, read_accessor, read_glb_container

EXTENSION = "KHR_gaussian_splatting"
#: Rotations that turn a world whose named axis points up to glTF's, in which y does.
UP_AXES = {
    "y": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "-y": ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0)),
    "z": ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
}


def y_up(up: str) -> np.ndarray:
    """``(4, 4)`` matrix from a world with that axis up to glTF's.

    Raises:
        ValueError: If the axis is not of ``UP_AXES``.
    """
    check_choice("up", up, UP_AXES)
    matrix = np.eye(4)
    matrix[:3, :3] = UP_AXES[up]
    return matrix


def write_gaussians_glb(
    gaussians: Gaussians, path: str | os.PathLike, up: str = "z", center: bool = True
) -> None:
    """Write Gaussians as binary glTF.

    Args:
        gaussians (Gaussians): At least one, with SH or three features as colour.
        path: Moved into place when whole.
        up (str): Axis of the world that points up: ``z`` (metric and georeferenced worlds),
            ``y``, or ``-y`` (COLMAP without alignment). Defaults to ``z``.
        center (bool): Store positions relative to their middle, which keeps digits where the
            world's origin is far. Defaults to True.

    Raises:
        ValueError: If there is no Gaussian or no colour.
    """
    matrix = y_up(up)
    g = gaussians.detach().to("cpu", torch.float32)
    sh = color_coefficients(g, "write_gaussians_glb")
    if not len(g):
        raise ValueError(f"{path}: expected at least one Gaussian, got none")
    middle = (g.means.amin(0) + g.means.amax(0)).double() / 2
    if not center:
        middle = torch.zeros(3, dtype=torch.float64)
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
        "extras": {"mmcity_up": up},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [node],
        "meshes": [{"primitives": [primitive]}],
    }
    builder.write(path, content)


def read_gaussians_glb(path: str | os.PathLike, up: str | None = None) -> Gaussians:
    """Read the first primitive of a binary glTF file that holds Gaussians.

    Args:
        path: File with the extension ``KHR_gaussian_splatting``, uncompressed.
        up (str, optional): Axis that points up in the world to return. Defaults to what a
            file of :func:`write_gaussians_glb` notes, else ``y``.

    Raises:
        FileNotFoundError: If there is no such file.
        GaussianFileError: If it is broken or holds no Gaussians.
    """
    try:
        document, binary = read_glb_container(path)
        found = _find_primitive(document)
        if found is None:
            raise GaussianFileError(
                f"{path}: expected a primitive with {EXTENSION}, got extensions "
                f"{document.get('extensionsUsed', [])}"
            )
        node, attributes = found
        values = {
            name: torch.from_numpy(read_accessor(document, binary, number).astype(np.float32))
            for name, number in attributes.items()
        }
    except GlbFormatError as error:
        raise GaussianFileError(f"{path}: {error}") from error
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
    gaussians = Gaussians(
        means=means,
        quats=rotations[:, [3, 0, 1, 2]],
        scales=scales.exp(),
        opacities=opacities[:, 0],
        sh0=table[:, :1],
        shN=table[:, 1:],
    )
    if not bool(gaussians.is_finite.all()):
        raise GaussianFileError(f"{path}: expected finite values, got NaN or infinity")
    axis = up or document.get("extras", {}).get("mmcity_up", "y")
    to_world = np.linalg.inv(y_up(axis)) @ _node_matrix(node, path)
    if np.allclose(to_world, np.eye(4), atol=1e-12):
        return gaussians
    if np.allclose(to_world[:3, :3], np.eye(3), atol=1e-12):
        gaussians.means = (gaussians.means.double() + torch.from_numpy(to_world[:3, 3])).float()
        return gaussians
    return gaussians.transform(Sim3.from_matrix(torch.from_numpy(to_world)))


def _sh_name(degree: int, row: int) -> str:
    return f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{row}"


def _find_primitive(document: dict[str, Any]) -> tuple[dict, dict[str, int]] | None:
    try:
        for node in document.get("nodes", []):
            if "mesh" not in node:
                continue
            for primitive in document["meshes"][node["mesh"]]["primitives"]:
                if EXTENSION in primitive.get("extensions", {}):
                    return node, primitive["attributes"]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise GlbFormatError(f"expected meshes, got broken ones: {error!r}") from error
    return None


def _node_matrix(node: dict[str, Any], path: str | os.PathLike) -> np.ndarray:
    if any(name in node for name in ("rotation", "scale", "translation")):
        raise GaussianFileError(
            f"{path}: expected the node's place as a matrix, got rotation, scale or translation"
        )
    numbers = node.get("matrix", np.eye(4).ravel().tolist())
    if len(numbers) != 16 or not all(math.isfinite(number) for number in numbers):
        raise GaussianFileError(f"{path}: expected a node matrix of 16 numbers, got {numbers}")
    return np.array(numbers, dtype=np.float64).reshape(4, 4).T
