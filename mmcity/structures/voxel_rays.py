"""Rays through voxel grids."""

import math

import torch
from torch import Tensor

from .voxel_grid import VoxelGrid


def cast_rays(grid: VoxelGrid, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """First occupied voxel along rays, by exact grid traversal (Amanatides and Woo, 1987).

    Args:
        grid: A single grid with labels.
        origins: ``(O, 3)`` in the frame of the grid, inside it.
        directions: ``(R, 3)`` unit vectors.

    Returns:
        Labels ``(O, R)`` (the free one where nothing is hit) and distances ``(O, R)`` in metres
        to the entry of the hit voxel (infinite where nothing is hit).
    """
    labels = grid.labels
    if labels is None or labels.ndim != 3:
        raise ValueError(f"grid: expected a single one with labels, got {grid}")
    shape = torch.tensor(labels.shape, device=labels.device)
    low, size = grid.origin.to(origins), grid.voxel_size.to(origins)
    start = ((origins - low) / size)[:, None].double()
    start = start.expand(-1, len(directions), -1).reshape(-1, 3)
    # Lengths along a ray count in voxels along x.
    ray = directions.double()[None].expand(len(origins), -1, -1).reshape(-1, 3)
    cell = start.floor().long()
    step = torch.where(ray >= 0, 1, -1)
    safe = torch.where(ray.abs() < 1e-12, torch.full_like(ray, 1e-12), ray)
    edge = grid.voxel_size.double()
    safe = safe * (edge[0] / edge)
    border = cell + (step > 0).long()
    next_t = ((border - start) / safe).abs()
    delta = (1.0 / safe).abs()
    hit_label = torch.full((len(ray),), grid.free_label, dtype=torch.long, device=labels.device)
    hit_t = torch.full((len(ray),), math.inf, dtype=torch.float64, device=labels.device)
    active = torch.arange(len(ray), device=labels.device)
    entered = torch.zeros(len(ray), dtype=torch.float64, device=labels.device)
    while len(active):
        current = cell[active]
        inside = ((current >= 0) & (current < shape)).all(-1)
        active, current = active[inside], current[inside]
        seen = labels[current[:, 0], current[:, 1], current[:, 2]].long()
        found = seen != grid.free_label
        hit_label[active[found]] = seen[found]
        hit_t[active[found]] = entered[active[found]]
        active = active[~found]
        if not len(active):
            break
        axis = next_t[active].argmin(-1)
        entered[active] = next_t[active, axis]
        cell[active, axis] += step[active, axis]
        next_t[active, axis] += delta[active, axis]
    rays = (len(origins), len(directions))
    return hit_label.view(rays), (hit_t * edge[0]).float().view(rays)
