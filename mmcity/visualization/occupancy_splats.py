"""Occupancy drawn with the splat operator: bird's-eye and oblique perspective views."""

from collections.abc import Sequence

import numpy as np
import torch

import mmcity_ops
from mmcity.datasets.occupancy_labels import UNIFIED_PALETTE
from mmcity.structures.geometry import look_at

__all__ = ["render_splats", "surface_voxels"]

#: Standard deviation of a voxel's Gaussian, in voxels: neighbours close the gaps.
_SIGMA = 0.48
#: The bird's-eye camera stands this many grid lengths above, so that columns look upright.
_FAR = 40.0


def surface_voxels(voxels: np.ndarray, free_class: int = 0) -> np.ndarray:
    """Indices ``(N, 3)`` of occupied voxels of ``(X, Y, Z)`` with a free neighbour."""
    occupied = np.pad(voxels != free_class, 1)
    inner = occupied[1:-1, 1:-1, 1:-1].copy()
    for axis in range(3):
        for step in (-1, 1):
            inner &= np.roll(occupied, step, axis)[1:-1, 1:-1, 1:-1]
    return np.argwhere((voxels != free_class) & ~inner)


def render_splats(
    voxels: np.ndarray,
    view: str = "oblique",
    palette: Sequence[Sequence[int]] = UNIFIED_PALETTE,
    free_class: int = 0,
    width: int = 480,
    height: int = 320,
) -> np.ndarray:
    """Draw one frame, one Gaussian a voxel, with the rasterizer.

    Args:
        voxels: Labels ``(X, Y, Z)``; x forward, y left, z up.
        view: ``oblique`` (perspective from behind and above) or ``birds_eye`` (x up).
        palette: RGB per label. Defaults to the unified classes'.
        free_class: Label of empty voxels. Defaults to 0.
        width, height: Of the picture, pixels. Default to 480 and 320.

    Returns:
        uint8 ``(height, width, 3)``.

    Raises:
        ValueError: If the view is unknown.
    """
    if view not in ("oblique", "birds_eye"):
        raise ValueError(f"view must be 'oblique' or 'birds_eye', got {view!r}")
    index = surface_voxels(voxels, free_class)
    if not len(index):
        return np.full((height, width, 3), 255, dtype=np.uint8)
    size = torch.tensor(voxels.shape, dtype=torch.float32)
    labels = voxels[tuple(index.T)]
    colors = torch.tensor(np.asarray(palette, dtype=np.float32)[labels] / 255.0)
    # Higher is brighter, and what looks left or backwards lies in the shade.
    shade = 0.6 + 0.4 * torch.from_numpy(index[:, 2] / max(voxels.shape[2] - 1, 1)).float()
    covered = np.pad(voxels != free_class, ((0, 0), (0, 0), (0, 1)))[
        index[:, 0], index[:, 1], index[:, 2] + 1
    ]
    shade = shade * torch.from_numpy(np.where(covered, 0.8, 1.0)).float()
    means = torch.from_numpy(index).float() + 0.5
    center = size / 2
    span = float(size[:2].max())
    if view == "birds_eye":
        eye = center + torch.tensor([0.0, 0.0, _FAR * span])
        up = torch.tensor([1.0, 0.0, 0.0])
        focal = 0.96 * _FAR * min(width / float(size[1]), height / float(size[0])) * span
    else:
        eye = center + span * torch.tensor([-1.15, 0.5, 0.95])
        up = torch.tensor([0.0, 0.0, 1.0])
        focal = 1.02 * min(width, 1.5 * height)
    viewmat = look_at(eye.double(), center.double(), up.double()).float()
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    quats = torch.zeros(len(means), 4)
    quats[:, 0] = 1.0
    image, _, _ = mmcity_ops.rasterization(
        means,
        quats,
        torch.full((len(means), 3), _SIGMA),
        torch.full((len(means),), 0.99),
        colors * shade[:, None],
        viewmat[None],
        K[None],
        width,
        height,
        backgrounds=torch.ones(1, 3),
        eps2d=0.05,
    )
    return (image[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
