"""Depth at which a ray has lost half of its light."""

import torch
from torch import Tensor

from mmcity.structures import Cameras
from mmcity.structures.geometry import transform_points
from mmcity_ops import rasterization

#: Slices of depth, each holding equally many Gaussians.
SLICES = 64


@torch.no_grad()
def median_depth(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, camera: Cameras, **options
) -> Tensor:
    """Depth where the opacity accumulated along a ray passes one half.

    Unlike the expected depth it lies on one of two surfaces at an edge, not between them. The
    Gaussians are sorted into slices of depth, and one render with a channel per slice gives the
    weight of each slice in a pixel; the result is the mean depth within the slice in which the
    weights, added from the front, pass one half. It is therefore exact up to the thickness of
    a slice.

    Args:
        means, quats, scales, opacities: The scene, see :class:`SplatRenderer`.
        camera: One camera.
        **options: Of :func:`mmcity_ops.rasterization`.

    Returns:
        ``(1, H, W, 1)`` z-depth, world units; 0 where less than half of the light is lost.
    """
    depth = transform_points(camera.viewmats[0, :3].to(means), means)[:, 2]
    ahead = depth > options.get("near_plane", 0.01)
    width, height = camera.one_size()
    if not bool(ahead.any()):
        return means.new_zeros(1, height, width, 1)
    borders = torch.quantile(
        _sample(depth[ahead]), torch.linspace(0, 1, SLICES + 1, device=means.device)[1:-1]
    )
    row = torch.bucketize(depth, borders)[:, None]  # (N, 1)
    features = means.new_zeros(len(means), 2 * SLICES)
    features.scatter_(1, row, 1.0)
    features.scatter_(1, SLICES + row, depth[:, None])
    images, _, _ = rasterization(
        means, quats, scales, opacities, features, camera.viewmats, camera.Ks, width=width,
        height=height, camera_model=camera.camera_model, **options,
    )  # fmt: skip
    weights, sums = images.split(SLICES, dim=-1)  # (1, H, W, SLICES)
    passed = weights.cumsum(-1) >= 0.5
    first = passed.float().argmax(-1, keepdim=True)  # (1, H, W, 1)
    found = sums.gather(-1, first) / weights.gather(-1, first).clamp_min(1e-12)
    return torch.where(passed.any(-1, keepdim=True), found, torch.zeros_like(found))


def _sample(values: Tensor, most: int = 1 << 20) -> Tensor:
    """At most so many of the values, evenly: ``torch.quantile`` takes no more than 2^24."""
    return values[:: max(1, len(values) // most)]
