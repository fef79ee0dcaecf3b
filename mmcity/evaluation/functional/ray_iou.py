"""RayIoU: occupancy judged along simulated lidar rays (SparseOcc, arXiv 2312.17118)."""

import math

import numpy as np
import torch
from torch import Tensor

from mmcity.structures import VoxelGrid, cast_rays

#: Distance errors in metres below which a hit of the right class counts.
RAY_THRESHOLDS = (1.0, 2.0, 4.0)


def lidar_directions() -> Tensor:
    """Unit directions ``(R, 3)``: ten downward rings by range, then rings up to 0.21 rad."""
    pitches = [-(math.pi / 2 - math.atan(k)) for k in range(1, 11)]
    while pitches[-1] + (step := pitches[-1] - pitches[-2]) < 0.21:
        pitches.append(pitches[-1] + step)
        if len(pitches) > 200:
            raise RuntimeError("rings: expected a spacing that grows, got one that does not")
    pitch = torch.tensor(pitches, dtype=torch.float64)[:, None]
    azimuth = torch.deg2rad(torch.arange(360, dtype=torch.float64))[None]
    directions = torch.stack(
        [pitch.cos() * azimuth.cos(), pitch.cos() * azimuth.sin(), pitch.sin().expand(-1, 360)],
        dim=-1,
    )
    return directions.reshape(-1, 3).float()


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


def count_rays(pred: VoxelGrid, target: VoxelGrid, origins: Tensor, num_classes: int) -> RayCounts:
    """Count hits of one frame along the rays that hit something in the ground truth.

    Args:
        pred, target: Grids with labels.
        origins: Sensor positions ``(O, 3)`` in the frame of the grids, metres.
        num_classes: Labels, free included.
    """
    directions = lidar_directions().to(target.device)
    want, want_distance = cast_rays(target, origins, directions)
    got, got_distance = cast_rays(pred, origins, directions)
    evaluated = want != target.free_label
    want, got = want[evaluated], got[evaluated]
    error = (want_distance[evaluated] - got_distance[evaluated]).abs()
    rows = [
        torch.bincount(want[(want == got) & (error < threshold)], minlength=num_classes)
        for threshold in RAY_THRESHOLDS
    ]
    rows += [torch.bincount(x, minlength=num_classes) for x in (want, got)]
    counts = torch.stack(rows).cpu()
    counts[-1, target.free_label] = 0
    return RayCounts(num_classes, counts)
