"""Torch oracle: frustum culling and level-of-detail selection."""

import math

import torch
from torch import Tensor

LOD_MODES = ("floor", "round", "ceil", "progressive")
NEAR_ONE = 0.9999


def frustum_cull(
    points: Tensor,
    radii: Tensor | None,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near: float,
    far: float,
    margin: float = 0.0,
) -> Tensor:
    """See :func:`mmcity_ops.frustum_cull`."""
    rot, trans = viewmats[:, :3, :3], viewmats[:, :3, 3]
    local = torch.einsum("cij,nj->cni", rot, points) + trans[:, None]
    x, y, z = local.unbind(-1)  # [C, N]
    fx, fy = Ks[:, 0, 0, None], Ks[:, 1, 1, None]
    cx, cy = Ks[:, 0, 2, None], Ks[:, 1, 2, None]
    if radii is None:
        safe = torch.where(z > 0, z, 1.0)
        u, v = fx * x / safe + cx, fy * y / safe + cy
        inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
        return (z > near) & (z < far) & inside
    r = (radii + margin)[None]
    visible = (z >= near - r) & (z <= far + r)
    for a, b, c in ((fx, 0, cx), (-fx, 0, width - cx), (0, fy, cy), (0, -fy, height - cy)):
        length = (a * a + b * b + c * c).sqrt()
        visible &= a * x + b * y + c * z >= -r * length
    return visible


def select_lod(
    anchors: Tensor,
    levels_of: Tensor,
    extra_level: Tensor | None,
    cam_centers: Tensor,
    voxel_size: float,
    fork: int,
    n_levels: int,
    standard_dist: float,
    resolution_scale: float,
    mode: str,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """See :func:`mmcity_ops.select_lod`."""
    levels = levels_of.to(torch.int64)
    half = (0.5 * voxel_size) / float(fork) ** levels.to(anchors.dtype)
    offset = (anchors + half[:, None])[None] - cam_centers[:, None]  # [C, N, 3]
    distance = offset.square().sum(-1).sqrt() * resolution_scale
    predicted = torch.log2(standard_dist / distance) / math.log2(fork)
    if extra_level is not None:
        predicted = predicted + extra_level
    if mode == "progressive":
        position = torch.clamp(predicted + 1, NEAR_ONE, n_levels - 1 + NEAR_ONE)
        whole = position.floor()
        whole_level = whole.to(torch.int64)
        return levels <= whole_level, position - whole, levels == whole_level
    rounded = {"floor": torch.floor, "round": torch.round, "ceil": torch.ceil}[mode](predicted)
    return levels <= rounded.clamp(0, n_levels - 1).to(torch.int64), None, None
