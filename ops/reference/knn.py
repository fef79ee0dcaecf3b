"""k-nearest distances by comparing all pairs: the oracle of ``knn_mean_dist2``."""

import torch
from torch import Tensor

CHUNK_PAIRS = 1 << 24  # pairs held at a time


def knn_mean_dist2(points: Tensor, k: int) -> Tensor:
    """Mean squared distance to the k nearest other points, [N]; NaN for non-finite points."""
    out = points.new_full((points.shape[0],), float("nan"))
    finite = torch.isfinite(points).all(dim=1).nonzero()[:, 0]
    kept = points[finite]
    n = len(kept)
    k = min(k, n - 1)
    if k <= 0:
        out[finite] = 0
        return out
    step = max(1, CHUNK_PAIRS // n)
    for start in range(0, n, step):
        rows = kept[start : start + step]
        dist2 = ((rows[:, None] - kept[None]) ** 2).sum(-1)  # (step, N)
        index = torch.arange(len(rows), device=points.device)
        dist2[index, start + index] = float("inf")
        out[finite[start : start + step]] = dist2.topk(k, largest=False).values.mean(dim=1)
    return out
