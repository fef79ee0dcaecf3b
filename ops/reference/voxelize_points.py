"""Torch and numpy oracles of the point voxelization operators."""

import torch
from torch import Tensor


def voxelize_dynamic(
    points: Tensor, voxel_size: list[float], point_cloud_range: list[float]
) -> Tensor:
    """Arguments and results of the native operator."""
    lo, size = points.new_tensor(point_cloud_range[:3]), points.new_tensor(voxel_size)
    dims = [
        round((point_cloud_range[3 + d] - point_cloud_range[d]) / voxel_size[d]) for d in range(3)
    ]
    cells = ((points[:, :3] - lo) / size).floor()
    inside = ((cells >= 0) & (cells < cells.new_tensor(dims))).all(1)
    cells = torch.where(inside[:, None], cells, -torch.ones_like(cells))
    return cells.flip(1).to(torch.int32)


def voxelize_hard(
    points: Tensor,
    voxel_size: list[float],
    point_cloud_range: list[float],
    max_points: int,
    max_voxels: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Arguments and results of the native operator, point by point."""
    coors = voxelize_dynamic(points, voxel_size, point_cloud_range)
    members: dict[tuple[int, ...], list[int]] = {}
    for index, cell in enumerate(map(tuple, coors.tolist())):
        if cell[0] < 0 or (cell not in members and len(members) >= max_voxels):
            continue
        members.setdefault(cell, [])
        if len(members[cell]) < max_points:
            members[cell].append(index)
    options = {"dtype": torch.int32, "device": points.device}
    rows = [ids + [-1] * (max_points - len(ids)) for ids in members.values()]
    point_ids = torch.tensor(rows, dtype=torch.long, device=points.device)
    point_ids = point_ids.reshape(len(rows), max_points)
    voxels = gather_points(points, point_ids)
    counts = torch.tensor([len(ids) for ids in members.values()], **options)
    return voxels, torch.tensor(list(members), **options).reshape(-1, 3), counts, point_ids


def gather_points(points: Tensor, point_ids: Tensor) -> Tensor:
    """Rows of ``points`` [M, max_points, F]; zeros where the index is -1."""
    padded = torch.cat([points, points.new_zeros(1, points.shape[1])])
    return padded[point_ids]


def group_voxels(coors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Arguments and results of the native operator."""
    kept = (coors >= 0).all(1).nonzero()[:, 0]
    voxels, inverse = torch.unique(coors[kept], dim=0, return_inverse=True)
    point2voxel = coors.new_full((len(coors),), -1)
    point2voxel[kept] = inverse.to(coors.dtype)
    order = kept[torch.sort(inverse, stable=True).indices]
    counts = torch.bincount(inverse, minlength=len(voxels))
    return voxels, point2voxel, order, torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def scatter_reduce_voxels(
    feats: Tensor, point2voxel: Tensor, order: Tensor, offsets: Tensor, reduce: str
) -> tuple[Tensor, Tensor]:
    """Arguments and results of the native operator (ties of "max" share the gradient)."""
    kept = (point2voxel >= 0).nonzero()[:, 0]
    index = point2voxel[kept].long()[:, None].expand(-1, feats.shape[1])
    mode = {"sum": "sum", "mean": "mean", "max": "amax"}[reduce]
    out = feats.new_zeros(len(offsets) - 1, feats.shape[1])
    out = out.scatter_reduce(0, index, feats[kept], mode, include_self=False)
    return out, order.new_zeros(0, feats.shape[1])
