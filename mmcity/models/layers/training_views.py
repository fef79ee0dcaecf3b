"""Cameras of the capture that a scene was trained on."""

import torch
from torch import Tensor

from mmcity.structures import Cameras
from mmcity.utils.precision import full_precision

from .resizable import ResizableModule


class TrainingViews(ResizableModule):
    """Poses of the training cameras: the scene's extent, and which space they saw."""

    resizable = ("viewmats", "Ks", "sizes")
    on_host = ("extent",)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("viewmats", torch.zeros(0, 4, 4))
        self.register_buffer("Ks", torch.zeros(0, 3, 3))
        self.register_buffer("sizes", torch.zeros(0, 2, dtype=torch.long))  # width, height
        self.register_buffer("extent", torch.ones(()))  # radius of the centres, world units

    def initialize(self, cameras: Cameras) -> None:
        """Remember the training cameras."""
        self.viewmats.data = cameras.viewmats.to(self.viewmats)
        self.Ks.data = cameras.Ks.to(self.Ks)
        self.sizes.data = torch.stack([cameras.widths, cameras.heights], dim=1).to(self.sizes)
        extent = cameras.scene_extent()
        # One camera (or several at one place) has no extent; then a world unit stands in.
        self.extent.fill_(extent if extent > 0 else 1.0)

    @torch.no_grad()
    def count_views(self, points: Tensor) -> Tensor:
        """Number of training pictures whose frame holds a point; occlusion is ignored.

        Args:
            points: (P, 3) world units.

        Returns:
            (P,) int64.
        """
        total = torch.zeros(len(points), dtype=torch.long, device=points.device)
        for viewmat, intrinsics, size in zip(self.viewmats, self.Ks, self.sizes):
            local = points @ viewmat[:3, :3].T + viewmat[:3, 3]  # (P, 3)
            depth = local[:, 2].clamp_min(1e-6)
            x = intrinsics[0, 0] * local[:, 0] / depth + intrinsics[0, 2]
            y = intrinsics[1, 1] * local[:, 1] / depth + intrinsics[1, 2]
            inside = (x >= 0) & (x < size[0]) & (y >= 0) & (y < size[1])
            total += inside & (local[:, 2] > 0)
        return total

    @torch.no_grad()
    @full_precision
    def covered(self, camera: Cameras, depth: Tensor, alpha: Tensor, min_views: int) -> Tensor:
        """Pixels that show something which enough training pictures hold.

        Args:
            camera: One camera.
            depth: (H, W) rendered z-depth.
            alpha: (H, W) accumulated opacity; pixels need more than 0.5.
            min_views: Number of training pictures.

        Returns:
            (H, W) bool.
        """
        points = camera.unproject(camera.pixel_grid().flatten(0, 1), depth.flatten())[0]
        return (self.count_views(points).view_as(depth) >= min_views) & (alpha > 0.5)
