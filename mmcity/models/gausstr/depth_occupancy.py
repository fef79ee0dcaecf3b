"""Occupancy from depth maps: hit voxels are occupied, those before them free."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmcity.structures import to_device

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
    """Label the voxels that depth maps decide, with one wait for the device.

    Every pixel's surface point occupies its voxel; between rows of one surface (the ground far
    away) points are filled in. Rays of every ``stride``-th pixel free the voxels up to one and
    a half voxels before their surface; a voxel that both claim is occupied.

    Args:
        depth: Metric depth ``(B, N, H, W)`` of the N cameras of each sample; pixels at or
            beyond ``depth_limit`` have no surface, those at 0 are unknown.
        cameras: ``cam2img``, ``cam2ego``, ``img_aug_mat``, each ``(B, N, 4, 4)``.
        vol_range: Lower and upper corner in metres.
        voxel_size: Metres.
        depth_limit: Metres. Defaults to 51.2.
        stride: Pixels between rays. Defaults to 4.

    Returns:
        uint8 ``(B, X, Y, Z)`` of ``FREE``, ``OCCUPIED`` and ``UNKNOWN``.
    """
    corners = torch.tensor(vol_range, dtype=depth.dtype).view(2, 3)
    shape = [round((b - a) / voxel_size) for a, b in corners.T.tolist()]
    low, high, limits = to_device((*corners, torch.tensor(shape)), depth.device)
    height, width = depth.shape[-2:]
    rows = torch.arange(height, device=depth.device, dtype=depth.dtype) + 0.5
    cols = torch.arange(width, device=depth.device, dtype=depth.dtype) + 0.5
    grid = torch.stack(torch.meshgrid(cols, rows, indexing="xy"), dim=-1)  # (H, W, 2)
    pixels = torch.cat([grid.expand(*depth.shape, 2), depth[..., None]], dim=-1)
    matrices = (cameras["cam2img"], cameras["cam2ego"], cameras["img_aug_mat"])
    points = pixels_to_ego(pixels.flatten(2, 3), *matrices).unflatten(2, (height, width))
    is_surface = (depth > 0) & (depth < depth_limit)

    cells = shape[0] * shape[1] * shape[2]
    samples = torch.arange(len(depth), device=depth.device).view(-1, 1, 1, 1)
    # Points of no voxel go to one behind the last.
    outside = cells * len(depth)
    labels = torch.full((outside + 1,), UNKNOWN, dtype=torch.uint8, device=depth.device)

    def mark(where: Tensor, sample: Tensor, label: int, mask: Tensor | None = None) -> None:
        if mask is not None and not depth.is_cuda:  # there it costs nothing to pick rows
            where, sample, mask = where[mask], sample.expand_as(mask)[mask], None
        index = ((where - low) / voxel_size).floor().long()
        inside = ((index >= 0) & (index < limits)).all(-1)
        if mask is not None:
            inside = inside & mask
        i, j, k = index.unbind(-1)
        place = ((sample * shape[0] + i) * shape[1] + j) * shape[2] + k
        labels.index_fill_(0, place.masked_fill(~inside, outside).flatten(), label)

    eyes = cameras["cam2ego"][:, :, None, None, :3, 3]
    ends = points[:, :, ::stride, ::stride]
    rays, eyes = ends - eyes, eyes.expand_as(ends)
    length = rays.norm(dim=-1)
    rays = rays / length[..., None]
    # A ray ends before its surface, or where it leaves the volume.
    leave = torch.maximum((low - eyes) / rays, (high - eyes) / rays)
    leave = leave.nan_to_num(nan=torch.inf).amin(-1)
    length = torch.minimum(length - 1.5 * voxel_size, leave)
    length = length.masked_fill(depth[:, :, ::stride, ::stride] <= 0, -torch.inf)
    of_rays = samples.expand_as(length).flatten()
    length, order = length.flatten().sort(descending=True)
    rays, eyes, of_rays = rays.flatten(0, 3)[order], eyes.flatten(0, 3)[order], of_rays[order]
    ends_at = -length.cpu()
    longest = max(-float(ends_at[0]), 0.0)
    steps = voxel_size * torch.arange(1, int(longest / voxel_size) + 1)
    alive = torch.searchsorted(ends_at, -steps).tolist()
    for step, count in zip(steps.tolist(), alive):
        mark(eyes[:count] + rays[:count] * step, of_rays[:count], FREE)
    near, far = depth[..., 1:, :], depth[..., :-1, :]
    ratio = torch.maximum(near, far) / torch.minimum(near, far).clamp(min=1e-6)
    first, last = points[..., :-1, :, :], points[..., 1:, :, :]
    wide = is_surface[..., 1:, :] & is_surface[..., :-1, :]
    wide = wide & (ratio < _SAME_SURFACE) & ((last - first).norm(dim=-1) > voxel_size)
    for share in torch.linspace(0, 1, _FILL + 2)[1:-1].tolist():
        mark(first + (last - first) * share, samples, OCCUPIED, wide)
    mark(points, samples, OCCUPIED, is_surface)
    return labels[:-1].view(-1, *shape)


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
