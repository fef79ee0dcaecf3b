"""Labelled voxels over time."""

from collections.abc import Sequence
from typing import Any

from mmcity.structures import VoxelGrid

from ..occupancy_mesh import occupancy_mesh

__all__ = ["OccupancyClip"]


class OccupancyClip:
    """Frames of labelled voxels, of which one is shown as a mesh.

    Args:
        scene: Of a viser server.
        name: Of the layer.
        grid: Labels ``(X, Y, Z)`` or ``(T, X, Y, Z)``.
        palette: RGB per label.

    Raises:
        ValueError: If the grid has no labels.
    """

    def __init__(self, scene: Any, name: str, grid: VoxelGrid, palette: Sequence) -> None:
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

    def __len__(self) -> int:
        return len(self.grid)

    def show(self, frame: int) -> list[Any]:
        """Draw a frame, or the last one of a shorter clip; it replaces the one before.

        Returns:
            What was drawn; nothing of an empty frame.
        """
        mesh = occupancy_mesh(self.grid[min(frame, len(self) - 1)], self.palette)
        if not len(mesh.faces):
            return []
        return [self.scene.add_mesh_trimesh(f"/{self.name}/frame", mesh, cast_shadow=False)]
