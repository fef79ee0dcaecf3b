"""Errors of surface normals."""

import torch
from torch import Tensor

_LIMITS = (11.25, 22.5, 30.0)


def normal_errors(pred: Tensor, gt: Tensor) -> dict[str, float]:
    """Angles between predicted and true normals.

    Args:
        pred: (N, 3) vectors, any length above 0.
        gt: (N, 3) likewise, in the same axes.

    Returns:
        ``mean`` and ``median`` angle in degrees, and ``below_11``, ``below_22``, ``below_30``:
        shares of angles below 11.25, 22.5 and 30 degrees.

    Raises:
        ValueError: If shapes differ or there is nothing to compare.
    """
    if pred.shape != gt.shape or pred.ndim != 2 or pred.shape[1] != 3 or not len(pred):
        raise ValueError(
            f"expected two (N, 3) sets of normals with N > 0, got {tuple(pred.shape)} and "
            f"{tuple(gt.shape)}"
        )
    pred, gt = pred.double(), gt.double()
    # atan2 of sine and cosine keeps its precision at small angles, where acos loses it.
    sine = torch.linalg.cross(pred, gt).norm(dim=1)
    angles = torch.rad2deg(torch.atan2(sine, (pred * gt).sum(1)))
    errors = dict(mean=angles.mean().item(), median=angles.median().item())
    for limit in _LIMITS:
        errors[f"below_{int(limit)}"] = (angles < limit).double().mean().item()
    return errors
