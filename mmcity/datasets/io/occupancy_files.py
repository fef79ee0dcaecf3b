"""Readers of occupancy files: one function per on-disk format, one frame each."""

from pathlib import Path

import numpy as np
import torch

from mmcity.structures import VoxelGrid
from mmcity.utils.fileio import read_arrays, read_json, read_numbers


class OccupancyFormatError(ValueError):
    """A file does not hold what its format says; the message names the file."""


def _read_raw(path: Path, dtype: str, grid: tuple[int, int, int]) -> np.ndarray:
    expected = int(np.prod(grid)) * np.dtype(dtype).itemsize
    size = path.stat().st_size
    if size != expected:
        raise OccupancyFormatError(
            f"{path}: expected {expected} bytes ({dtype} of grid {tuple(grid)}), got {size}; "
            "the file is truncated or belongs to another grid"
        )
    return np.fromfile(path, dtype=dtype).reshape(grid)


def read_carlasc_params(folder: str | Path) -> dict:
    """``params.json`` of a CarlaSC ``evaluation`` folder: grid size and bounds.

    Returns:
        ``grid_size`` (3 ints), ``min_bound`` and ``max_bound`` (metres), ``num_channels``.
    """
    path = Path(folder) / "params.json"
    try:
        params = read_json(path)
    except ValueError as error:
        raise OccupancyFormatError(f"{path}: expected JSON, got {error}") from error
    missing = [key for key in ("grid_size", "min_bound", "max_bound") if key not in params]
    if missing:
        raise OccupancyFormatError(f"{path}: expected keys {missing}, got none")
    params["grid_size"] = [int(n) for n in params["grid_size"]]
    return params


def read_carlasc_frame(
    label_path: str | Path, grid: tuple[int, int, int], with_invalid: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
    """One CarlaSC frame.

    Args:
        label_path: The ``.label`` file (uint32, x slowest, z fastest); the observation counts
            lie beside it with the suffix ``.bin`` (float32).
        grid: ``(X, Y, Z)``.
        with_invalid: Also read the counts. Defaults to True.

    Returns:
        Raw labels uint32 ``(X, Y, Z)`` and bool ``(X, Y, Z)``, True where a cell was never
        observed (None without counts).
    """
    path = Path(label_path)
    labels = _read_raw(path, "<u4", grid)
    if not with_invalid:
        return labels, None
    return labels, _read_raw(path.with_suffix(".bin"), "<f4", grid) == 0


def _read_npz(path: Path, keys: tuple[str, ...]) -> list[np.ndarray]:
    try:
        found = read_arrays(path, keys)
    except ValueError as error:
        raise OccupancyFormatError(str(error)) from error
    missing = [key for key in keys if key not in found]
    if missing:
        raise OccupancyFormatError(f"{path}: expected arrays {missing} too, got {sorted(found)}")
    arrays = [found[key] for key in keys]
    shape = arrays[0].shape
    for key, array in zip(keys, arrays):
        if array.shape != shape or array.ndim != 3:
            raise OccupancyFormatError(
                f"{path}: '{key}': expected a grid like '{keys[0]}' {shape}, got {array.shape}"
            )
    return arrays


def occ3d_grid(
    labels: np.ndarray, free_label: int = 17, masks: dict[str, np.ndarray] | None = None
) -> VoxelGrid:
    """Labels of Occ3D in the place of its grid about the car.

    Args:
        labels: ``(..., 200, 200, 16)``.
        free_label: Of empty voxels. Defaults to 17, that of Occ3D-nuScenes.
        masks: See :class:`~mmcity.structures.VoxelGrid`. Defaults to none.
    """
    return VoxelGrid(
        torch.from_numpy(labels.astype(np.int64)),
        origin=(-40.0, -40.0, -1.0),
        voxel_size=0.4,
        free_label=free_label,
        masks=masks,
    )


def read_occ3d_nuscenes_frame(path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``labels.npz`` of Occ3D-nuScenes.

    Returns:
        ``semantics`` uint8 ``(X, Y, Z)``, ``mask_lidar`` and ``mask_camera`` bool.
    """
    labels, lidar, camera = _read_npz(Path(path), ("semantics", "mask_lidar", "mask_camera"))
    return labels.astype(np.uint8), lidar.astype(bool), camera.astype(bool)


def read_occ3d_waymo_frame(path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``NNN_04.npz`` of Occ3D-Waymo.

    Returns:
        ``voxel_label`` uint8 ``(X, Y, Z)`` and the lidar and camera masks, bool (their
        voxel states are non-zero where a voxel was observed).
    """
    keys = ("voxel_label", "origin_voxel_state", "final_voxel_state")
    labels, lidar, camera = _read_npz(Path(path), keys)
    return labels.astype(np.uint8), lidar != 0, camera != 0


def read_planar_poses(path: str | Path) -> np.ndarray:
    """``poses.txt`` with 12 numbers a row (3x4 row-major, sensor to first-frame world).

    Returns:
        float64 ``(N, 3)``: x, y in metres and yaw in radians.
    """
    path = Path(path)
    try:
        rows = read_numbers(path, 12, finite=True)
    except ValueError as error:
        raise OccupancyFormatError(str(error)) from error
    return np.stack([rows[:, 3], rows[:, 7], np.arctan2(rows[:, 4], rows[:, 0])], axis=1)
