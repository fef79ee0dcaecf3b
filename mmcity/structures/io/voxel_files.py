"""Files of labelled voxel grids, as the viewer and the exporters read them."""

import os
from typing import Any

import numpy as np
import torch

from mmcity.utils.fileio import atomic_path, read_arrays

from ..voxel_grid import VoxelGrid


def write_voxel_grid(
    path: str | os.PathLike, grid: VoxelGrid, poses: np.ndarray | None = None
) -> None:
    """Write labels (uint8), lower corner and edge of a grid whose free label is 0.

    Args:
        path: ``.npz`` file.
        grid: One grid, or a clip ``(T, X, Y, Z)``.
        poses: ``(T, 4, 4)``, grid to world, of a grid that moves. Defaults to None.
    """
    if grid.labels is None or grid.free_label:
        raise ValueError(f"grid: expected labels of which 0 is free, got {grid}")
    moving: dict[str, Any] = {} if poses is None else {"poses": poses}
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            voxels=grid.labels.reshape(-1, *grid.shape).cpu().numpy().astype(np.uint8),
            origin=grid.origin.cpu().numpy().astype(np.float32),
            voxel_size=grid.voxel_size.cpu().numpy().astype(np.float32),
            **moving,
        )


def read_voxel_grid(path: str | os.PathLike) -> VoxelGrid:
    """Read what :func:`write_voxel_grid` wrote: labels int64 ``(T, X, Y, Z)``."""
    data = read_arrays(path)
    lacking = [name for name in ("voxels", "origin", "voxel_size") if name not in data]
    if lacking:
        raise ValueError(f"{path}: expected arrays {lacking} too, got {sorted(data)}")
    return VoxelGrid(
        torch.from_numpy(data["voxels"].astype(np.int64)),
        origin=torch.from_numpy(data["origin"]),
        voxel_size=torch.from_numpy(data["voxel_size"]),
    )
