"""Occupancy in the layouts of Occ3D, as its benchmarks and our data sets read it."""

import os
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log

from mmcity.structures import VoxelGrid
from mmcity.utils.checks import check_choice
from mmcity.utils.fileio import atomic_path

#: Names of labels, lidar's and cameras' masks, of the file of a frame, and the label of free
#: voxels in each layout.
_LAYOUTS = {
    "nuscenes": (("semantics", "mask_lidar", "mask_camera"), "{:06d}/labels.npz", 17),
    "waymo": (("voxel_label", "origin_voxel_state", "final_voxel_state"), "{:03d}_04.npz", 15),
}
_MASKS = ("lidar", "camera")


def write_occ3d(grid: VoxelGrid, folder: str | os.PathLike, layout: str = "nuscenes") -> list[Path]:
    """Write the frames of a grid as Occ3D lays them out, with labels as they are.

    Args:
        grid: Labels of 0 to 255, ``(X, Y, Z)`` or ``(T, X, Y, Z)``. Its masks ``lidar`` and
            ``camera`` say what was seen; without them all counts as seen, which a warning tells.
        folder: Target. Files in it are ``FRAME/labels.npz`` or ``NNN_04.npz``.
        layout: ``nuscenes`` or ``waymo``. Defaults to ``nuscenes``.

    Returns:
        The files, in order.

    Raises:
        ValueError: If the grid has no labels, or one beyond 0 to 255.
    """
    check_choice("layout", layout, _LAYOUTS)
    keys, name, free_label = _LAYOUTS[layout]
    if grid.labels is None or grid.labels.ndim not in (3, 4):
        raise ValueError(f"grid: expected labels (X, Y, Z) or (T, X, Y, Z), got {grid}")
    labels = grid.labels.reshape(-1, *grid.shape).cpu().numpy()
    if labels.min() < 0 or labels.max() > 255:
        raise ValueError(
            f"labels: expected 0 to 255, got {labels.min()} to {labels.max()}: map them to fewer"
        )
    if grid.free_label != free_label:
        print_log(
            f"{folder}: labels are written as they are, with {grid.free_label} for free voxels, "
            f"which is {free_label} in Occ3D-{layout}",
            "current",
            30,
        )
    absent = [mask for mask in _MASKS if mask not in grid.masks]
    if absent:
        print_log(f"{folder}: without masks of {' and '.join(absent)}, all is seen", "current", 30)
    seen = torch.ones(labels.shape, dtype=torch.bool)
    masks = [grid.masks.get(mask, seen).reshape(labels.shape).cpu().numpy() for mask in _MASKS]
    written = []
    for number, arrays in enumerate(zip(labels, *masks)):
        target = Path(folder) / name.format(number)
        with atomic_path(target) as temporary:
            np.savez_compressed(
                temporary, **{key: array.astype(np.uint8) for key, array in zip(keys, arrays)}
            )
        written.append(target)
    return written
