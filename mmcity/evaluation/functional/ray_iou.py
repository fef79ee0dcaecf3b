"""RayIoU: occupancy judged along simulated lidar rays (SparseOcc, arXiv 2312.17118)."""

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["RAY_THRESHOLDS", "RayCounts", "cast_rays", "count_rays", "lidar_directions"]

#: Distance errors in metres below which a hit of the right class counts.
RAY_THRESHOLDS = (1.0, 2.0, 4.0)


def lidar_directions() -> Tensor:
    """Unit directions ``(R, 3)``: ten downward rings by range, then rings up to 0.21 rad."""
    pitches = [-(math.pi / 2 - math.atan(k)) for k in range(1, 11)]
    while pitches[-1] + (step := pitches[-1] - pitches[-2]) < 0.21:
        pitches.append(pitches[-1] + step)
        if len(pitches) > 200:
            raise RuntimeError("ring spacing does not grow")
    pitch = torch.tensor(pitches, dtype=torch.float64)[:, None]
    azimuth = torch.deg2rad(torch.arange(360, dtype=torch.float64))[None]
    directions = torch.stack(
        [pitch.cos() * azimuth.cos(), pitch.cos() * azimuth.sin(), pitch.sin().expand(-1, 360)],
        dim=-1,
    )
    return directions.reshape(-1, 3).float()


def cast_rays(
    labels: Tensor,
    origins: Tensor,
    directions: Tensor,
    volume_min: Tensor,
    voxel_size: float,
    free_class: int,
) -> tuple[Tensor, Tensor]:
    """First occupied voxel along rays, by exact grid traversal (Amanatides and Woo, 1987).

    Args:
        labels: ``(X, Y, Z)``.
        origins: ``(O, 3)`` metres, inside the volume.
        directions: ``(R, 3)`` unit vectors.
        volume_min: ``(3,)`` lower corner in metres.
        voxel_size: Edge in metres.
        free_class: Label of empty voxels.

    Returns:
        Labels ``(O, R)`` (``free_class`` where nothing is hit) and distances ``(O, R)`` to the
        entry of the hit voxel (infinite where nothing is hit).
    """
    shape = torch.tensor(labels.shape, device=labels.device)
    start = ((origins - volume_min) / voxel_size)[:, None].double()
    start = start.expand(-1, len(directions), -1).reshape(-1, 3)
    ray = directions.double()[None].expand(len(origins), -1, -1).reshape(-1, 3)
    cell = start.floor().long()
    step = torch.where(ray >= 0, 1, -1)
    safe = torch.where(ray.abs() < 1e-12, torch.full_like(ray, 1e-12), ray)
    border = cell + (step > 0).long()
    next_t = ((border - start) / safe).abs()
    delta = (1.0 / safe).abs()
    hit_label = torch.full((len(ray),), free_class, dtype=torch.long, device=labels.device)
    hit_t = torch.full((len(ray),), math.inf, dtype=torch.float64, device=labels.device)
    active = torch.arange(len(ray), device=labels.device)
    entered = torch.zeros(len(ray), dtype=torch.float64, device=labels.device)
    while len(active):
        current = cell[active]
        inside = ((current >= 0) & (current < shape)).all(-1)
        active, current = active[inside], current[inside]
        seen = labels[current[:, 0], current[:, 1], current[:, 2]].long()
        found = seen != free_class
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
    return hit_label.view(rays), (hit_t * voxel_size).float().view(rays)


class RayCounts:
    """True positives per threshold and class, and hits of ground truth and prediction.

    Args:
        num_classes: Classes, ``free_class`` included.
        values: ``(T + 2, K)`` int64 counts. Defaults to zeros.
    """

    def __init__(self, num_classes: int, values: Tensor | None = None) -> None:
        rows = len(RAY_THRESHOLDS) + 2
        self.values = torch.zeros(rows, num_classes, dtype=torch.long) if values is None else values

    def __add__(self, other: "RayCounts") -> "RayCounts":
        return RayCounts(self.values.shape[1], self.values + other.values)

    def ray_iou(self, free_class: int) -> dict[str, float]:
        """``RayIoU`` and ``RayIoU@1`` .. in percent; classes without any hit do not count."""
        *hits, target, pred = self.values.double()
        occupied = torch.ones_like(target, dtype=torch.bool)
        occupied[free_class] = False
        result = {}
        for threshold, tp in zip(RAY_THRESHOLDS, hits):
            union = target + pred - tp
            valid = occupied & (union > 0)
            value = float((tp[valid] / union[valid]).mean()) if valid.any() else float("nan")
            result[f"RayIoU@{threshold:g}"] = 100.0 * value
        result["RayIoU"] = float(np.mean(list(result.values())))
        return result


def count_rays(
    pred: Tensor,
    target: Tensor,
    origins: Tensor,
    volume_min: Tensor,
    voxel_size: float,
    num_classes: int,
    free_class: int,
) -> RayCounts:
    """Count hits of one frame along the rays that hit something in the ground truth.

    Args:
        pred, target: Labels ``(X, Y, Z)``.
        origins: Sensor positions ``(O, 3)`` in the frame of the grid, metres.
        volume_min, voxel_size: The grid.
        num_classes, free_class: The labels.
    """
    directions = lidar_directions().to(target.device)
    grid = (volume_min, voxel_size, free_class)
    want, want_distance = cast_rays(target, origins, directions, *grid)
    got, got_distance = cast_rays(pred, origins, directions, *grid)
    evaluated = want != free_class
    want, got = want[evaluated], got[evaluated]
    error = (want_distance[evaluated] - got_distance[evaluated]).abs()
    rows = [
        torch.bincount(want[(want == got) & (error < threshold)], minlength=num_classes)
        for threshold in RAY_THRESHOLDS
    ]
    rows += [torch.bincount(x, minlength=num_classes) for x in (want, got)]
    counts = torch.stack(rows).cpu()
    counts[-1, free_class] = 0
    return RayCounts(num_classes, counts)
