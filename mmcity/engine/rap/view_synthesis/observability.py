"""Coverage of a new view by the photographs of a map."""

from typing import Any

import torch
from torch import Tensor

from mmcity.structures import Cameras

_OPAQUE = 0.5


class MapObservability:
    """Share of a view's content that enough mapped photographs see.

    A pixel is lifted by the depth of its render. A photograph sees that point if it lies in the
    picture and at the depth of the photograph's own render there, so that neither what is hidden
    from the photograph nor what floats before it counts.

    Args:
        cameras (Cameras): Of the photographs, of one size.
        depths (Tensor): ``(N, h, w)`` z-depth of their renders.
        alphas (Tensor): ``(N, h, w)`` opacity of their renders.
        min_views (int): Photographs that must see a point. Defaults to 2, from which on its
            depth is known.
        tolerance (float): Relative difference of depths that counts as the same. Defaults to 0.1.
        stride (int): Every n-th pixel of a row and column is looked at. Defaults to 4.
    """

    def __init__(
        self,
        cameras: Cameras,
        depths: Tensor,
        alphas: Tensor,
        min_views: int = 2,
        tolerance: float = 0.1,
        stride: int = 4,
    ) -> None:
        if min(min_views, stride) < 1 or not tolerance > 0:
            raise ValueError("min_views, stride: expected at least 1; tolerance: more than 0")
        self.cameras = cameras
        self.depths = torch.where(alphas > _OPAQUE, depths, torch.full_like(depths, -1.0))
        self.min_views, self.tolerance, self.stride = min_views, tolerance, stride

    @torch.no_grad()
    def __call__(self, cameras: Cameras, depths: Tensor, alphas: Tensor) -> Tensor:
        """Share ``(C,)`` of the opaque pixels of views; 0 for a view without any.

        Args:
            cameras (Cameras): C views of one size.
            depths (Tensor): ``(C, h, w)`` z-depth.
            alphas (Tensor): ``(C, h, w)``.
        """
        step, first = self.stride, self.stride // 2
        pixels = cameras.pixel_grid()[first::step, first::step].flatten(0, 1)
        rows: dict[str, Any] = dict(depths=depths, alphas=alphas)
        rows = {k: v[:, first::step, first::step].flatten(1) for k, v in rows.items()}
        points = cameras.unproject(pixels, rows["depths"])  # (C, P, 3)
        opaque = rows["alphas"] > _OPAQUE
        shares = [self._seen(view[kept]) for view, kept in zip(points, opaque)]
        return torch.stack(shares)

    def _seen(self, points: Tensor) -> Tensor:
        """Share of points ``(P, 3)`` that enough photographs see."""
        if not len(points):
            return points.new_zeros(())
        width, height = self.cameras.one_size()
        at, depth = self.cameras.project(points)  # (N, P, 2), (N, P)
        cell = at.nan_to_num().floor().long()
        inside = (cell >= 0).all(-1) & (cell[..., 0] < width) & (cell[..., 1] < height)
        column, row = cell[..., 0].clamp(0, width - 1), cell[..., 1].clamp(0, height - 1)
        rendered = self.depths.flatten(1).gather(1, row * width + column)
        same = (rendered - depth).abs() <= self.tolerance * depth
        count = (inside & (depth > 0) & (rendered > 0) & same).sum(0)
        return (count >= self.min_views).float().mean()
