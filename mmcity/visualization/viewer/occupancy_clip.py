"""Labelled voxels over time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmcity.structures import VoxelGrid

from ..occupancy_mesh import occupancy_mesh


class OccupancyClip:
    """Frames of labelled voxels, of which one is shown as a mesh.

    Args:
        scene: Of a viser server.
        name: Of the layer.
        grid: Labels ``(X, Y, Z)`` or ``(T, X, Y, Z)``.
        palette: RGB per label.
        poses: ``(T, 4, 4)``, grid to world, of a grid that moves. Defaults to None.

    Raises:
        ValueError: If the grid has no labels.
    """

    def __init__(
        self,
        scene: Any,
        name: str,
        grid: VoxelGrid,
        palette: Sequence,
        poses: np.ndarray | None = None,
    ) -> None:
        if grid.labels is None:
            raise ValueError(f"{name}: expected labels, got densities")
        if grid.labels.ndim == 3:
            grid = VoxelGrid(
                grid.labels[None],
                origin=grid.origin,
                voxel_size=grid.voxel_size,
                free_label=grid.free_label,
            )
        self.scene, self.name, self.grid, self.palette = scene, name, grid, palette
        self.poses = poses

    def __len__(self) -> int:
        return len(self.grid)

    @property
    def corners(self) -> np.ndarray:
        """``(N, 3)`` lower and upper corners of the grid at all times, in the world."""
        corners = self.grid.extent.cpu().double().numpy()
        if self.poses is None:
            return corners
        turned = corners @ self.poses[:, :3, :3].swapaxes(1, 2)
        return (turned + self.poses[:, None, :3, 3]).reshape(-1, 3)

    def show(self, frame: int) -> list[Any]:
        """Draw a frame, or the last one of a shorter clip; it replaces the one before.

        Returns:
            What was drawn; nothing of an empty frame.
        """
        frame = min(frame, len(self) - 1)
        mesh = occupancy_mesh(self.grid[frame], self.palette)
        if not len(mesh.faces):
            return []
        if self.poses is not None:
            mesh.apply_transform(self.poses[frame])
        return [self.scene.add_mesh_trimesh(f"/{self.name}/frame", mesh, cast_shadow=False)]
