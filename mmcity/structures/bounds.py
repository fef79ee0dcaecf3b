"""Boxes about what a scene shows, which a few things far out do not widen."""

import numpy as np
import torch
from torch import Tensor

from .gaussians import Gaussians

#: Of the weight along each axis, before the margin.
_PERCENTILES = (2, 98)
#: Part of its edge by which a box is widened to each side.
_MARGIN = 0.1
#: A Gaussian is a stray from so many times half the longest edge of the scene's box on ...
STRAY_REACH = 9.0
#: ... if its opacity is lower than this: skies and mountains are opaque.
STRAY_OPACITY = 0.1
#: A Gaussian below this opacity reaches no pixel: renderers leave out what adds less.
DRAWN_OPACITY = 1 / 255


def robust_bounds(
    points: Tensor | np.ndarray, weights: Tensor | np.ndarray | None = None
) -> Tensor:
    """Box of the 2nd to 98th weighted percentile of points, widened by a tenth to each side.

    Args:
        points: ``(N, 3)``; those that are not finite are left out.
        weights: ``(N,)`` at least 0, such as opacities. Defaults to None: all count alike.

    Returns:
        ``(2, 3)`` float64 lower and upper corner, on the CPU; -1 and 1 if nothing has weight.
    """
    xyz = torch.as_tensor(points).detach().cpu().double().reshape(-1, 3)
    weight = torch.ones(len(xyz)) if weights is None else torch.as_tensor(weights).detach().cpu()
    use = xyz.isfinite().all(1) & (weight > 0)
    if not use.any():
        return torch.tensor([[-1.0] * 3, [1.0] * 3], dtype=torch.float64)
    low, high = np.percentile(
        xyz[use], _PERCENTILES, axis=0, weights=weight[use].double(), method="inverted_cdf"
    )
    margin = _MARGIN * (high - low)
    return torch.from_numpy(np.stack([low - margin, high + margin]))


def is_stray(
    means: Tensor, opacities: Tensor, bounds: Tensor, reach: float = STRAY_REACH
) -> Tensor:
    """``(N,)`` bool: far out and nearly transparent, of no use to any view.

    Args:
        means: ``(N, 3)`` world positions.
        opacities: ``(N,)`` in [0, 1].
        bounds: ``(2, 3)`` corners of what the scene shows, see :func:`robust_bounds`.
        reach: How far from the middle, over half the longest edge. Defaults to 9.
    """
    low, high = bounds.to(means)
    radius = reach * float((high - low).max()) / 2
    is_far = (means - (low + high) / 2).norm(dim=1) > radius
    return is_far & (opacities < STRAY_OPACITY)


def drop_unseen(gaussians: Gaussians, least_opacity: float = DRAWN_OPACITY) -> Gaussians:
    """The Gaussians without strays, and without those below an opacity: no view shows them."""
    g = gaussians.detach()
    unseen = is_stray(g.means, g.opacities, robust_bounds(g.means, g.opacities))
    return gaussians[~(unseen | (g.opacities < least_opacity))]
