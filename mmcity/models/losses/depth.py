"""Losses on depth maps and feature maps."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .masked import masked_mean


def scale_invariant_log(pred: Tensor, target: Tensor, ratio: float = 0.5) -> Tensor:
    """Scale-invariant logarithmic error (Eigen et al., 2014), mean over images.

    Args:
        pred: ``(B, H, W)`` metres.
        target: ``(B, H, W)``; pixels at most 1e-6 do not count.
        ratio: Share of the squared mean that is taken off. Defaults to 0.5.
    """
    log_error = (target.clamp(min=1e-6).log() - pred.clamp(min=1e-6).log()).flatten(1)
    counted = (target.flatten(1) > 1e-6) & ~log_error.isnan()
    log_error = log_error.masked_fill(~counted, 0)
    counts = counted.sum(1)
    mean, mean_square = (x.sum(1) / counts.clamp_min(1) for x in (log_error, log_error.square()))
    # The root of an image without pixels would have an infinite slope.
    errors = (mean_square - ratio * mean.square()).masked_fill(counts == 0, 1).sqrt()
    return (errors * (counts > 0)).mean()


def masked_l1(pred: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over pixels whose target is not 0."""
    return masked_mean((pred - target).abs(), target != 0)


def cosine_distance(a: Tensor, b: Tensor, dim: int = -1) -> Tensor:
    """``1 - cos(a, b)`` along ``dim``; 1 where one of them is zero."""
    dot = (a * b).sum(dim)
    norms = (a.square().sum(dim) + 1e-12) * (b.square().sum(dim) + 1e-12)
    return 1.0 - dot / norms.sqrt()


def upsampled_cosine_loss(rendered: Tensor, targets: Tensor, rows_at_once: int = 64) -> Tensor:
    """Mean cosine distance between rendered maps and bilinearly enlarged targets.

    The enlarged targets are never stored as a whole.

    Args:
        rendered: ``(B, R, H, W)``.
        targets: ``(B, R, h, w)`` with ``H = h p``, ``W = w p``.
        rows_at_once: Image rows per chunk. Defaults to 64.
    """
    height, width = rendered.shape[-2:]
    h, w = targets.shape[-2:]
    factor = height / h
    total = rendered.new_zeros(())
    for start in range(0, height, rows_at_once):
        rows = torch.arange(start, min(start + rows_at_once, height), device=rendered.device)
        source = ((rows + 0.5) / factor - 0.5).clamp(0, h - 1)
        low = source.floor().long()
        high = (low + 1).clamp(max=h - 1)
        share = (source - low).to(targets)[:, None]
        part = targets[:, :, low] * (1 - share) + targets[:, :, high] * share
        # Rows are interpolated above; this enlarges along x only.
        part = F.interpolate(part, (len(rows), width), mode="bilinear", align_corners=False)
        total = total + cosine_distance(rendered[:, :, rows], part, dim=1).sum()
    return total / (rendered.shape[0] * height * width)
