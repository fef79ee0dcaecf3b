"""Entries of published GaussTR checkpoints beside our own."""

import torch
from torch import Tensor

from .gausstr import GaussTR


def is_own(key: str) -> bool:
    """Whether published files lack an entry of ours: the basis of the rendered features."""
    return key.startswith("feature_basis.")


def is_published_alone(key: str) -> bool:
    """Whether we lack an entry of theirs: the voxelizer's buffers follow from the config."""
    return ".voxelizer." in key


def published_buffers(model: GaussTR) -> dict[str, Tensor]:
    """Buffers of the published voxelizers: range ``(6,)`` and voxel centres ``(X, Y, Z, 3)``."""
    buffers = {}
    for i, head in enumerate(model.gauss_heads):
        grid = head.voxelizer
        axes = [
            torch.tensor(low) + (torch.arange(n) + 0.5) * grid.voxel_size
            for low, n in zip(grid.vol_range, grid.grid_shape)
        ]
        name = f"gauss_heads.{i}.voxelizer"
        buffers[f"{name}.vol_range"] = torch.tensor(grid.vol_range)
        buffers[f"{name}.grid_coords"] = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    return buffers
