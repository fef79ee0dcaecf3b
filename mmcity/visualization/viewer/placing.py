"""Layers of one world about one origin, so that single precision shows them without jitter."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmcity.structures import Cameras, GaussianLodTree, SceneFrame, Sim3, Trajectory, VoxelGrid
from mmcity.structures.world_offset import world_offset

from .files import Layer


def frame_to_show(layer: Layer) -> SceneFrame:
    """Frame in which the first layer of a view is shown: its own, about its own origin."""
    frame, positions = layer.frame or SceneFrame(), _positions(layer)
    if not len(positions):
        return frame
    return frame.shifted(world_offset(positions, np.zeros((0, 3)))[0])


def placed(layer: Layer, frame: SceneFrame) -> Layer:
    """A layer in a frame; one without a reference system is in that of the frame.

    Raises:
        ValueError: If the layer lies in another reference system.
    """
    own = layer.frame or SceneFrame()
    if not own.crs:
        own = replace(own, crs=frame.crs, lla=frame.lla)
    # A grid without a frame lies about its car, not in the world.
    is_about_a_car = layer.kind == "occupancy" and layer.frame is None
    if own == frame or is_about_a_car or layer.kind not in _MOVERS:
        return layer
    try:
        similarity = own.relative_to(frame)
    except ValueError as error:
        raise ValueError(f"{layer.name}: {error}: show it by itself") from error
    return replace(layer, data=_MOVERS[layer.kind](layer.data, similarity), frame=frame)


def _positions(layer: Layer) -> np.ndarray:
    """``(N, 3)`` float64 of what a layer consists of."""
    data = layer.data
    if layer.kind == "gaussians":
        data = data.cells[0].gaussians if isinstance(data, GaussianLodTree) else data
        found = data.means.detach().cpu()
    elif layer.kind == "mesh":
        found = data.vertices
    elif layer.kind == "points":
        found = data[0]
    elif layer.kind == "cameras":
        found = data[0].centers
    elif layer.kind == "trajectory":
        found = data.centers
    elif layer.kind == "localization":
        poses = [row["cam_to_world"] for row in data if row.get("cam_to_world") is not None]
        found = np.array(poses, np.float64).reshape(-1, 4, 4)[:, :3, 3]
    else:
        found = np.zeros((0, 3))
    found = np.asarray(found, np.float64)
    return found[np.isfinite(found).all(1)]


def _move_gaussians(scene: Any, similarity: Sim3) -> Any:
    if not isinstance(scene, GaussianLodTree):
        return scene.transform(similarity)
    scale = float(similarity.scale)
    cells = []
    for cell in scene.cells:
        moved = cell.gaussians.transform(similarity)
        corners = torch.cartesian_prod(*cell.box.T.double())  # (8, 3)
        around = similarity(corners).to(cell.box)
        box = torch.stack([around.amin(0), around.amax(0)])
        cells.append(replace(cell, gaussians=moved, box=box, error=cell.error * scale))
    return GaussianLodTree(cells)


def _move_mesh(mesh: Any, similarity: Sim3) -> Any:
    moved = mesh.copy()
    moved.apply_transform(similarity.matrix.numpy())
    return moved


def _move_cameras(data: tuple[Cameras, Any], similarity: Sim3) -> tuple[Cameras, Any]:
    return data[0].to(torch.float64).transform(similarity).to(torch.float32), data[1]


def _move_points(data: tuple[np.ndarray, Any], similarity: Sim3) -> tuple[np.ndarray, Any]:
    return similarity(torch.from_numpy(np.asarray(data[0], np.float64))).numpy(), data[1]


def _move_trajectory(path: Trajectory, similarity: Sim3) -> Trajectory:
    return path.transform(similarity)


def _move_occupancy(data: tuple[VoxelGrid, Any, Any], similarity: Sim3) -> tuple:
    """Grids keep their axes and grow; poses of each time place them."""
    grid, palette, poses = data
    scale = float(similarity.scale)
    grown = VoxelGrid(
        grid.labels,
        origin=grid.origin * scale,
        voxel_size=grid.voxel_size * scale,
        free_label=grid.free_label,
    )
    if poses is None:
        poses = np.tile(np.eye(4), (1 if grid.labels.ndim == 3 else len(grid), 1, 1))
    poses = similarity.transform_poses(torch.from_numpy(np.asarray(poses, np.float64)))
    return grown, palette, poses.numpy()


def _move_rows(rows: Sequence[dict[str, Any]], similarity: Sim3) -> list[dict[str, Any]]:
    def moved(pose: Any) -> Any:
        tensor: Tensor = torch.tensor(pose, dtype=torch.float64)
        return similarity.transform_poses(tensor).tolist()

    def is_pose(key: str, value: Any) -> bool:
        return key.endswith("cam_to_world") and value is not None

    return [{k: moved(v) if is_pose(k, v) else v for k, v in row.items()} for row in rows]


_MOVERS: dict[str, Callable[[Any, Sim3], Any]] = {
    "gaussians": _move_gaussians,
    "mesh": _move_mesh,
    "points": _move_points,
    "cameras": _move_cameras,
    "trajectory": _move_trajectory,
    "localization": _move_rows,
    "occupancy": _move_occupancy,
}
