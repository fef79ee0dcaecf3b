"""Occupancy of any stage as grids with a palette."""

from pathlib import Path

import numpy as np
import torch

from mmcity.datasets.io.occupancy_files import (
    occ3d_grid,
    read_carlasc_frame,
    read_carlasc_params,
    read_occ3d_nuscenes_frame,
    read_occ3d_waymo_frame,
)
from mmcity.datasets.occupancy_labels import (
    CARLASC_TO_UNIFIED,
    OCC3D_NUSCENES_CLASSES,
    OCC3D_WAYMO_TO_UNIFIED,
    remap_labels,
)
from mmcity.structures import VoxelGrid
from mmcity.structures.palettes import OCC3D_NUSCENES_PALETTE, UNIFIED_PALETTE
from mmcity.utils.fileio import read_arrays
from mmcity.utils.picture_names import natural_order

Palette = list[tuple[int, int, int]]

#: Arrays that hold a clip ``(T, X, Y, Z)`` or a frame ``(X, Y, Z)`` of labels, by what wrote
#: them: the generator, dumped samples, and other dumps.
_CLIP_KEYS = ("voxels", "pred_occupancy", "pred_occupancy.labels", "occ_pred", "labels")
_MAX_FRAMES = 200


def open_occupancy_file(path: Path) -> tuple[VoxelGrid, Palette, np.ndarray | None] | None:
    """Grids, palette and poses of an ``.npz`` file; None if it holds no occupancy.

    Labels of Occ3D files stay as they are; other arrays count as the unified classes, or as
    Occ3D-nuScenes labels where a label or the given ``free_label`` lies above those.
    ``origin`` and ``voxel_size`` are read where the file has them; else the grid is centred
    and its voxels have the edge 1. ``poses`` ``(T, 4, 4)``, grid to world, are those of a
    moving grid; None where the file has none.
    """
    arrays = {k: array for k, array in read_arrays(path).items() if array.dtype.kind in "uibf"}
    masks = {
        name: torch.from_numpy(arrays[f"mask_{name}"] != 0)
        for name in ("lidar", "camera")
        if f"mask_{name}" in arrays
    }
    if "semantics" in arrays and "mask_camera" in arrays:
        labels = read_occ3d_nuscenes_frame(path)[0]
        return occ3d_grid(labels, masks=masks), list(OCC3D_NUSCENES_PALETTE), None
    if "voxel_label" in arrays:
        return *_waymo(read_occ3d_waymo_frame(path)[0]), None
    key = next((k for k in _CLIP_KEYS if k in arrays and arrays[k].ndim in (3, 4)), None)
    if key is None or arrays[key].dtype.kind not in "ui":
        return None
    labels = arrays[key].astype(np.int64)
    free = int(arrays["free_label"]) if "free_label" in arrays else 0
    is_nuscenes = max(free, int(labels.max(initial=0))) >= len(UNIFIED_PALETTE)
    if is_nuscenes and "free_label" not in arrays:
        free = len(OCC3D_NUSCENES_CLASSES) - 1
    edge = arrays.get("voxel_size", np.ones(1)).reshape(-1).astype(np.float32)
    corner = arrays.get("origin")
    if corner is None:
        corner = -np.array([labels.shape[-3] / 2, labels.shape[-2] / 2, 0]) * edge
    grid = VoxelGrid(
        torch.from_numpy(labels),
        origin=torch.from_numpy(np.asarray(corner, np.float32)),
        voxel_size=torch.from_numpy(edge),
        free_label=free,
        masks=masks,
    )
    poses = arrays.get("poses")
    if poses is not None and poses.shape != (len(labels), 4, 4):
        raise ValueError(f"{path}: expected poses ({len(labels)}, 4, 4), got {poses.shape}")
    return grid, list(OCC3D_NUSCENES_PALETTE) if is_nuscenes else list(UNIFIED_PALETTE), poses


def is_occupancy_folder(path: Path) -> bool:
    """Whether a folder holds frames of CarlaSC, Occ3D-Waymo or Occ3D-nuScenes."""
    return bool(_frames(path)[1])


def open_occupancy_folder(path: Path) -> tuple[VoxelGrid, Palette, None]:
    """All frames of a folder as one clip; at most the first 200."""
    kind, files = _frames(path)
    files = files[:_MAX_FRAMES]
    if kind == "carlasc":
        folder = files[0].parent
        params = read_carlasc_params(folder)
        shape, low = tuple(params["grid_size"]), np.asarray(params["min_bound"], np.float32)
        size = (np.asarray(params["max_bound"], np.float32) - low) / shape
        frames = [read_carlasc_frame(file, shape, with_invalid=False)[0] for file in files]
        labels = remap_labels(np.stack(frames), CARLASC_TO_UNIFIED, str(folder))
        grid = VoxelGrid(
            torch.from_numpy(labels.astype(np.int64)),
            origin=torch.from_numpy(low),
            voxel_size=torch.from_numpy(size.astype(np.float32)),
        )
        return grid, list(UNIFIED_PALETTE), None
    if kind == "waymo":
        return *_waymo(np.stack([read_occ3d_waymo_frame(file)[0] for file in files])), None
    return *_nuscenes(np.stack([read_occ3d_nuscenes_frame(file)[0] for file in files])), None


def _frames(path: Path) -> tuple[str, list[Path]]:
    kinds = {
        "carlasc": ("*.label", "evaluation/*.label", "cartesian/evaluation/*.label"),
        "waymo": ("*_04.npz",),
        "nuscenes": ("*/labels.npz",),
    }
    for kind, patterns in kinds.items():
        for pattern in patterns:
            files = natural_order(path.glob(pattern))
            if files:
                return kind, files
    return "", []


def _nuscenes(labels: np.ndarray) -> tuple[VoxelGrid, Palette]:
    return occ3d_grid(labels), list(OCC3D_NUSCENES_PALETTE)


def _waymo(labels: np.ndarray) -> tuple[VoxelGrid, Palette]:
    unified = remap_labels(labels, OCC3D_WAYMO_TO_UNIFIED, "Occ3D-Waymo")
    return occ3d_grid(unified, free_label=0), list(UNIFIED_PALETTE)
