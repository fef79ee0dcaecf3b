"""Names of coordinate axes, and Gaussians turned from one set of them to another.

A name gives the directions of +x, +y and +z: Left or Right, Up or Down, Front or Back. ``RDF`` is
OpenCV's and COLMAP's (x right, y down, z forward), ``RUB`` glTF's, ``RFU`` that of maps.
"""

import numpy as np
import torch

from mmcity.utils.checks import check_choice

from .gaussians import Gaussians
from .sim3 import Sim3

_NAMES = (
    *("LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF"),
    *("LFD", "RFD", "LFU", "RFU", "LBD", "RBD", "LBU", "RBU"),
)
#: Code of each name, as SPZ files write it; 0 stands for axes that are not known.
AXES: dict[str, int] = {name: code for code, name in enumerate(_NAMES, 1)}
#: Axes of a world by the one of them that points up.
UP_AXES = {"z": "RFU", "y": "RUB", "-y": "RDF"}
_DIRECTIONS = {
    **{"R": (1.0, 0.0, 0.0), "U": (0.0, 1.0, 0.0), "B": (0.0, 0.0, 1.0)},
    **{"L": (-1.0, 0.0, 0.0), "D": (0.0, -1.0, 0.0), "F": (0.0, 0.0, -1.0)},
}


def _columns(axes: str) -> np.ndarray:
    """Directions ``(3, 3)`` of +x, +y and +z, one a column."""
    check_choice("axes", axes, AXES)
    return np.array([_DIRECTIONS[letter] for letter in axes]).T


def axes_matrix(source: str, target: str) -> np.ndarray:
    """Matrix ``(3, 3)``, float64, from coordinates in some axes to those in others.

    Args:
        source: Name of ``AXES``.
        target: Name of ``AXES``. Of one handedness with ``source`` the determinant is 1, else -1.

    Raises:
        ValueError: If a name is none of ``AXES``.
    """
    return _columns(target).T @ _columns(source) + 0.0  # without zeros of sign -


def is_right_handed(axes: str) -> bool:
    """Whether a scene in these axes is none that a mirror shows."""
    return float(np.linalg.det(_columns(axes))) > 0


def right_handed_twin(axes: str) -> str:
    """Right-handed axes that have the same one upright."""
    check_choice("axes", axes, AXES)
    if axes[2] in "UD":
        return {"U": "RFU", "D": "RBD"}[axes[2]]
    return {"U": "RUB", "D": "RDF"}[axes[1]]


def up_direction(axes: str) -> np.ndarray:
    """Unit vector ``(3,)`` that points up in some axes."""
    return axes_matrix("RUB", axes)[:, 1]


def convert_axes(gaussians: Gaussians, source: str, target: str) -> Gaussians:
    """Gaussians with positions, shapes and view-dependent colours in other axes.

    Args:
        gaussians: In the axes ``source``.
        source: Name of ``AXES``.
        target: Name of ``AXES``. Of another handedness the scene becomes its mirror image, which
            is what it was before in axes read wrongly.

    Raises:
        ValueError: If a name is none of ``AXES``, or a scene with a frame is to be mirrored.
    """
    matrix = axes_matrix(source, target)
    if source == target:
        return gaussians
    if np.linalg.det(matrix) > 0:
        return gaussians.transform(Sim3(rotation=torch.from_numpy(matrix)))
    if gaussians.frame is not None:
        raise ValueError(
            f"axes: expected {source} and {target} of one handedness, since the scene has a frame: "
            f"turn it to {right_handed_twin(source)} where it was made"
        )
    # What is left to a turn is the inversion of all three axes. It keeps ellipsoids, and negates
    # positions and the SH of odd degree.
    out = gaussians.transform(Sim3(rotation=torch.from_numpy(-matrix)))
    out.means = -out.means
    if out.shN is not None:
        degrees = torch.arange(1, out.shN.shape[1] + 1, device=out.device).double().sqrt().floor()
        out.shN = torch.where((degrees % 2 == 1)[:, None], -out.shN, out.shN)
    return out
