"""Occupancy from depth maps: hit voxels are occupied, those before them free."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .geometry import pixels_to_ego

FREE, OCCUPIED, UNKNOWN = 0, 1, 2
#: Points between two neighbouring rows of one surface.
_FILL = 8
#: Rows whose depths differ by less than this factor lie on one surface.
_SAME_SURFACE = 1.35


@torch.no_grad()
def occupancy_from_depth(
    depth: Tensor,
    cameras: dict[str, Tensor],
    vol_range: Sequence[float],
    voxel_size: float,
    depth_limit: float = 51.2,
    stride: int = 4,
) -> Tensor:
    """Label the voxels that depth maps decide.

    Every pixel's surface point occupies its voxel; between rows of one surface (the ground far
    away) points are filled in. Rays of every ``stride``-th pixel free the voxels up to one and
    a half voxels before their surface; a voxel that both claim is occupied.

    Args:
        depth: Metric depth ``(N, H, W)`` of the cameras of one sample; pixels at or beyond
            ``depth_limit`` have no surface, those at 0 are unknown.
        cameras: ``cam2img``, ``cam2ego``, ``img_aug_mat``, each ``(N, 4, 4)``.
        vol_range: Lower and upper corner in metres.
        voxel_size: Metres.
        depth_limit: Metres. Defaults to 51.2.
        stride: Pixels between rays. Defaults to 4.

    Returns:
        uint8 ``(X, Y, Z)`` of ``FREE``, ``OCCUPIED`` and ``UNKNOWN``.
    """
    low = depth.new_tensor(vol_range[:3])
    shape = [round((b - a) / voxel_size) for a, b in zip(vol_range[:3], vol_range[3:])]
    height, width = depth.shape[-2:]
    rows = torch.arange(height, device=depth.device, dtype=depth.dtype) + 0.5
    cols = torch.arange(width, device=depth.device, dtype=depth.dtype) + 0.5
    grid = torch.stack(torch.meshgrid(cols, rows, indexing="xy"), dim=-1)  # (H, W, 2)
    pixels = torch.cat([grid.expand(*depth.shape, 2), depth[..., None]], dim=-1)
    matrices = (cameras["cam2img"], cameras["cam2ego"], cameras["img_aug_mat"])
    points = pixels_to_ego(pixels.flatten(1, 2), *matrices).unflatten(1, (height, width))
    is_surface = (depth > 0) & (depth < depth_limit)

    labels = torch.full((shape[0] * shape[1] * shape[2],), UNKNOWN, dtype=torch.uint8)
    labels = labels.to(depth.device)

    def mark(where: Tensor, label: int) -> None:
        index = ((where - low) / voxel_size).floor().long()
        inside = ((index >= 0) & (index < index.new_tensor(shape))).all(-1)
        i, j, k = index[inside].unbind(-1)
        labels[(i * shape[1] + j) * shape[2] + k] = label

    eyes = cameras["cam2ego"][:, None, None, :3, 3]
    ends = points[:, ::stride, ::stride]
    seen = depth[:, ::stride, ::stride] > 0
    rays, eyes = (ends - eyes)[seen], eyes.expand_as(ends)[seen]
    length = rays.norm(dim=-1)
    rays = rays / length[:, None]
    # A ray ends before its surface, or where it leaves the volume.
    sides = torch.stack([low, depth.new_tensor(vol_range[3:])])[:, None] - eyes
    leave = (sides / rays).amax(0).nan_to_num(nan=torch.inf).amin(-1)
    length = torch.minimum(length - 1.5 * voxel_size, leave)
    order = length.argsort(descending=True)
    rays, eyes, length = rays[order], eyes[order], length[order]
    longest = float(length[0]) if len(length) else 0.0
    steps = voxel_size * torch.arange(1, max(int(longest / voxel_size), 0) + 1)
    alive = torch.searchsorted(-length.cpu(), -steps).tolist()
    for step, count in zip(steps.tolist(), alive):
        mark(eyes[:count] + rays[:count] * step, FREE)
    near, far = depth[:, 1:], depth[:, :-1]
    ratio = torch.maximum(near, far) / torch.minimum(near, far).clamp(min=1e-6)
    gap = (points[:, 1:] - points[:, :-1]).norm(dim=-1)
    wide = is_surface[:, 1:] & is_surface[:, :-1] & (ratio < _SAME_SURFACE) & (gap > voxel_size)
    first, last = points[:, :-1][wide], points[:, 1:][wide]
    for share in torch.linspace(0, 1, _FILL + 2)[1:-1].tolist():
        mark(first + (last - first) * share, OCCUPIED)
    mark(points[is_surface], OCCUPIED)
    return labels.view(*shape)


def volume_loss(density: Tensor, labels: Tensor, gain: float) -> Tensor:
    """One minus the soft IoU of ``1 - exp(-gain * density)`` and labels, over known voxels.

    Args:
        density: ``(X, Y, Z)``.
        labels: As :func:`occupancy_from_depth` gives.
        gain: A voxel counts as half occupied at a density of ``log(2) / gain``.
    """
    occupied = -torch.expm1(-gain * density)
    # Products with masks: picking rows costs ten times as much on a CPU.
    is_hit, is_free = (labels == OCCUPIED).to(occupied), (labels == FREE).to(occupied)
    false = (occupied * is_free).sum()
    return 1.0 - (occupied * is_hit).sum() / (is_hit.sum() + false).clamp(min=1.0)
