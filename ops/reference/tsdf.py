"""Torch oracle of the fusion of depth maps."""

import itertools

import torch
from torch import Tensor


def voxel_centres(
    blocks: Tensor, dims: tuple[int, int, int], origin: list[float], voxel_size: float
) -> Tensor:
    """Centres of the voxels of all blocks in metres, float64 [M, X, Y, Z, 3]."""
    blocks = blocks.double()
    axes = [torch.arange(d, dtype=torch.float64, device=blocks.device) for d in dims]
    local = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    index = blocks[:, None, None, None] * blocks.new_tensor(dims) + local
    return blocks.new_tensor(origin) + (index + 0.5) * voxel_size


def tsdf_integrate_(
    tsdf: Tensor,
    weight: Tensor,
    color: Tensor,
    blocks: Tensor,
    depth: Tensor,
    image: Tensor | None,
    mask: Tensor | None,
    K: Tensor,
    viewmat: Tensor,
    origin: list[float],
    voxel_size: float,
    trunc: float,
    frame_weight: float,
    max_depth: float,
) -> None:
    """Arguments of the native operator; updates the volume."""
    K, viewmat = K.double(), viewmat.double()
    points = voxel_centres(blocks, tuple(tsdf.shape[1:]), origin, voxel_size)
    points = points @ viewmat[:3, :3].T + viewmat[:3, 3]
    z = points[..., 2]
    u = (K[0, 0] * points[..., 0] / z + K[0, 2]).floor()
    v = (K[1, 1] * points[..., 1] / z + K[1, 2]).floor()
    height, width = depth.shape
    keep = (z > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    u, v = (torch.where(keep, x, 0.0).long() for x in (u, v))
    d = depth[v, u].double()
    sdf = d - z
    keep = keep & (d > 0) & (d <= max_depth) & (sdf >= -trunc)
    if mask is not None:
        keep = keep & mask[v, u]
    value = (sdf / trunc).clamp(max=1).to(tsdf.dtype)
    old = weight[keep]
    total = old + frame_weight
    tsdf[keep] = (tsdf[keep] * old + value[keep] * frame_weight) / total
    if image is not None:
        seen = image[v[keep], u[keep]]
        color[keep] = (color[keep] * old[:, None] + seen * frame_weight) / total[:, None]
    weight[keep] = total


def tsdf_touched_blocks(
    depth: Tensor,
    mask: Tensor | None,
    K: Tensor,
    viewmat: Tensor,
    origin: list[float],
    voxel_size: float,
    trunc: float,
    max_depth: float,
    block_size: int,
) -> Tensor:
    """Arguments and results of the native operator; may return a few blocks more."""
    keep = (depth > 0) & (depth <= max_depth) & depth.isfinite()
    if mask is not None:
        keep = keep & mask
    v, u = keep.nonzero().double().T
    z, K = depth[keep].double(), K.double()
    ray = torch.stack([(u + 0.5 - K[0, 2]) / K[0, 0], (v + 0.5 - K[1, 2]) / K[1, 1],
                       torch.ones_like(u)], -1)  # fmt: skip
    near = torch.maximum(z - trunc, 0.5 * z.clamp(max=voxel_size))
    edge, rotation = voxel_size * block_size, viewmat[:3, :3].double()
    length = (ray.norm(dim=-1) * (z + trunc - near)).max().item() if len(z) else 0.0
    steps = max(1, int(2 * length / edge + 1))
    margin = voxel_size + 0.5 * length / steps + 0.75 * (z + trunc) / K.diagonal()[:2].min()
    found = []
    for step in range(steps):
        at = near + (z + trunc - near) * (step + 0.5) / steps
        world = (ray * at[:, None] - viewmat[:3, 3].double()) @ rotation
        world = world - world.new_tensor(origin)
        low = ((world - margin[:, None]) / edge).floor().long()
        high = ((world + margin[:, None]) / edge).floor().long()
        spans = [range(int((high - low)[:, a].max()) + 1 if len(z) else 0) for a in range(3)]
        for offset in itertools.product(*spans):
            found.append(torch.minimum(low + low.new_tensor(offset), high).unique(dim=0))
    if not found:
        return depth.new_zeros(0, 3, dtype=torch.int32)
    return torch.cat(found).unique(dim=0).to(torch.int32)
