"""Octree of anchors: how many levels, which voxels, and who sees them."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

#: Bits of one voxel coordinate in a 64-bit key; coordinates lie within +-2^20.
COORDINATE_BITS = 21
_SHIFT = 1 << (COORDINATE_BITS - 1)
_PAIRS_AT_ONCE = 1 << 23  # point-camera pairs held in memory at a time


@dataclass(frozen=True)
class LevelTable:
    """Levels that a capture needs.

    Attributes:
        n_levels: Number of levels L; level 0 is the coarsest.
        init_level: Finest level that takes part at the start of training.
        standard_dist: Distance at which level 0 suffices, world units.
    """

    n_levels: int
    init_level: int
    standard_dist: float


@dataclass(frozen=True)
class VoxelGrid3:
    """Placement of the octree: voxels of level l have the edge ``voxel_size / fork**l``.

    Attributes:
        origin: ``(3,)`` world units.
        voxel_size: Edge at level 0, world units.
        base_layer: Halvings of the box that lead to level 0.
    """

    origin: Tensor
    voxel_size: float
    base_layer: int


def _quantiles(values: Tensor, shares: tuple[float, ...]) -> list[float]:
    """Linearly interpolated quantiles; ``torch.quantile`` refuses large inputs."""
    return [float(q) for q in np.quantile(values.cpu().numpy(), shares)]


def fit_levels(
    points: Tensor,
    centers: Tensor,
    *,
    fork: int = 2,
    dist_ratio: float = 0.999,
    levels: int = -1,
    init_level: int = -1,
) -> LevelTable:
    """Number of levels from the spread of distances between cameras and points.

    Args:
        points: ``(P, 3)`` world units.
        centers: ``(C, 3)`` training camera centres.
        fork: Ratio of voxel edges between levels. Defaults to 2.
        dist_ratio: Quantile that counts as the largest distance; one minus it as the
            smallest. Defaults to 0.999.
        levels: Number of levels; negative to derive it. Defaults to -1.
        init_level: Finest level at the start; negative for half of them. Defaults to -1.
    """
    extremes = []
    for center in centers:
        distance = (points - center).norm(dim=1)
        extremes += _quantiles(distance, (dist_ratio, 1 - dist_ratio))
    far, near = _quantiles(torch.tensor(extremes), (dist_ratio, 1 - dist_ratio))
    if not near > 0:
        raise ValueError(f"expected points away from the cameras, got a smallest distance {near}")
    if levels < 0:
        levels = round(math.log2(far / near) / math.log2(fork)) + 1
    if init_level < 0:
        init_level = levels // 2
    return LevelTable(max(int(levels), 1), int(init_level), far)


def fit_grid(
    points: Tensor,
    default_voxel_size: float,
    n_levels: int,
    *,
    fork: int = 2,
    base_layer: int = -1,
    extend: float = 1.1,
    legacy_box: bool = False,
) -> VoxelGrid3:
    """Place the octree so that its middle level has about ``default_voxel_size``.

    Args:
        points: ``(P, 3)`` world units.
        default_voxel_size: Edge of the middle level, world units.
        n_levels: Number of levels.
        fork: Ratio of voxel edges between levels. Defaults to 2.
        base_layer: Divisions that lead to level 0; negative to derive them. Defaults to -1.
        extend: Factor on the box of the points. Defaults to 1.1.
        legacy_box: One interval for all axes, stretched about the world's zero, and layers
            counted in halvings for any fork, as the original does. Defaults to False.
    """
    if not default_voxel_size > 0:
        raise ValueError(f"default_voxel_size: expected above 0, got {default_voxel_size}")
    if legacy_box:
        low = points.min() * extend
        high = points.max() * extend
        origin, edge, log_base = low.expand(3).clone(), float(high - low), 2
    else:
        centre = 0.5 * (points.amin(0) + points.amax(0))
        half = 0.5 * extend * (points.amax(0) - points.amin(0)).max().clamp_min(1e-6)
        origin, edge, log_base = centre - half, float(2 * half), fork
    if base_layer < 0:
        steps = math.log2(edge / default_voxel_size) / math.log2(log_base)
        base_layer = round(steps) - n_levels // 2 + 1
    return VoxelGrid3(origin, edge / float(fork) ** base_layer, base_layer)


def voxel_keys(points: Tensor, origin: Tensor, size: float | Tensor) -> Tensor:
    """``(P,)`` int64 keys of the voxels nearest to points; their order is lexicographic.

    Raises:
        ValueError: If a point lies more than 2^20 voxels away from the origin.
    """
    voxels = torch.round((points - origin) / size).long() + _SHIFT  # (P, 3)
    if len(voxels) and (int(voxels.min()) < 0 or int(voxels.max()) >= 2 * _SHIFT):
        raise ValueError(
            f"points: expected within 2^20 voxels of edge {float(size):.3g}, got some beyond: "
            "raise default_voxel_size, or remove stray points"
        )
    return (voxels[:, 0] << 2 * COORDINATE_BITS) | (voxels[:, 1] << COORDINATE_BITS) | voxels[:, 2]


def keys_to_voxels(keys: Tensor) -> Tensor:
    """``(P, 3)`` int64 voxel coordinates of keys."""
    mask = (1 << COORDINATE_BITS) - 1
    parts = [(keys >> (axis * COORDINATE_BITS)) & mask for axis in (2, 1, 0)]
    return torch.stack(parts, dim=1) - _SHIFT


def visible_share(
    positions: Tensor,
    levels: Tensor,
    centers: Tensor,
    *,
    standard_dist: float,
    n_levels: int,
    fork: int = 2,
) -> Tensor:
    """``(P,)`` share of the cameras that are near enough to want a position's level.

    Args:
        positions: ``(P, 3)``.
        levels: ``(P,)`` integer levels.
        centers: ``(C, 3)`` camera centres.
        standard_dist: Distance at which level 0 suffices.
        n_levels: Number of levels.
        fork: Ratio of voxel edges between levels. Defaults to 2.
    """
    shares = torch.empty(len(positions), device=positions.device)
    rows = max(_PAIRS_AT_ONCE // max(len(centers), 1), 1)
    for first in range(0, len(positions), rows):
        part = slice(first, first + rows)
        offsets = positions[part, None] - centers[None]  # (p, C, 3)
        distance = offsets.square().sum(-1).sqrt()
        wanted = torch.log2(standard_dist / distance) / math.log2(fork)
        wanted = wanted.round().clamp(0, n_levels - 1)
        shares[part] = (levels[part, None] <= wanted).float().mean(1)
    return shares


def place_anchors(
    points: Tensor,
    centers: Tensor,
    grid: VoxelGrid3,
    table: LevelTable,
    *,
    fork: int = 2,
    visible_threshold: float = 0.01,
) -> tuple[Tensor, Tensor]:
    """Anchors at the occupied voxels of all levels, without those that few cameras want.

    Args:
        points: ``(P, 3)``.
        centers: ``(C, 3)`` training camera centres.
        grid: Placement of the octree.
        table: Levels.
        fork: Ratio of voxel edges between levels. Defaults to 2.
        visible_threshold: An anchor stays where more than this share of the cameras wants
            its level; negative derives it (the mean share). Defaults to 0.01.

    Returns:
        Positions ``(N, 3)``, level by level, and levels ``(N,)`` int32.
    """
    origin = grid.origin.to(points)
    positions, levels = [], []
    for level in range(table.n_levels):
        size = grid.voxel_size / float(fork) ** level
        keys = voxel_keys(points, origin, size).unique()
        positions.append(keys_to_voxels(keys).to(points) * size + origin)
        levels.append(torch.full((len(keys),), level, dtype=torch.int32, device=points.device))
    anchors, level_of = torch.cat(positions), torch.cat(levels)
    options = dict(standard_dist=table.standard_dist, n_levels=table.n_levels, fork=fork)
    shares = visible_share(anchors, level_of, centers, **options)
    if visible_threshold < 0:
        keep = shares > 0
        anchors, level_of, shares = anchors[keep], level_of[keep], shares[keep]
        visible_threshold = float(shares.mean())
    keep = shares > visible_threshold
    return anchors[keep], level_of[keep]


def coarse_intervals(
    n_levels: int, init_level: int, coarse_iter: int = 10000, coarse_factor: float = 1.5
) -> list[float]:
    """Iterations after which one more level takes part; a geometric series up to ``coarse_iter``.

    Empty if there are no levels beyond the first ones.
    """
    count = n_levels - 1 - init_level
    if count <= 0:
        return []
    ratio = 1 / coarse_factor
    if ratio == 1:
        first = coarse_iter / count
    else:
        first = coarse_iter * (1 - ratio) / (1 - ratio**count)
    steps = [first * ratio**i for i in range(count)]
    return [sum(steps[: i + 1]) for i in range(count)]


def current_level(intervals: list[float], iteration: int, init_level: int, n_levels: int) -> int:
    """Finest level that takes part at an iteration."""
    passed = sum(end < iteration for end in intervals)
    return min(passed + init_level, n_levels - 1)
