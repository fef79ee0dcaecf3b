"""Mean distance to the nearest neighbours, for initial sizes of Gaussians."""

import torch
from torch import Tensor

from mmcity_ops import _backend
from mmcity_ops.reference import knn as reference


def knn_mean_dist2(points: Tensor, k: int = 3) -> Tensor:
    """Mean of the squared distances to the k nearest other points, exact.

    A duplicate counts as a neighbour at distance 0. Not differentiable. A usual initial scale of
    a Gaussian is ``sqrt(max(d, 1e-7))``.

    Args:
        points: Positions, [N, 3].
        k: Number of neighbours, at least 1. Defaults to 3.

    Returns:
        Mean squared distances, [N]; the mean of those available where N <= k, 0 for N = 1. A
        point with a NaN or infinite coordinate gets NaN and is nobody's neighbour.

    Raises:
        ValueError: For a wrong shape or k < 1.
        TypeError: Unless ``points`` is float32 or float64.
    """
    _backend.check_shape("points", points, ("N", 3))
    _backend.check_float(points=points)
    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    _backend.check_finite(points=points)
    points = points.detach()
    if _backend.use_native(points):
        return torch.ops.mmcity.knn_mean_dist2(points, k)
    return reference.knn_mean_dist2(points, k)


@_backend.on_native_load
def _register() -> None:
    @torch.library.register_fake("mmcity::knn_mean_dist2")
    def _fake(points: Tensor, k: int) -> Tensor:
        return points.new_empty(points.shape[0])
