"""Depth alignment and error measures of the monocular and video depth benchmarks."""

import torch
from torch import Tensor

from mmcity.utils.checks import check_choice

#: Names in the order of the result files.
DEPTH_METRICS = (
    *("Abs Rel", "Sq Rel", "RMSE", "Log RMSE", "δ < 1.", "δ < 1.25", "δ < 1.25^2", "δ < 1.25^3"),
)
ALIGNMENTS = ("median", "scale", "scale&shift", "scale&shift_upstream", "lstsq", "metric")
MIN_DEPTH = 1e-5


def _median_ratio(pred: Tensor, gt: Tensor) -> Tensor:
    return gt.median() / pred.median()  # torch's median is the lower one


def _robust_scale(pred: Tensor, gt: Tensor, iterations: int = 10) -> Tensor:
    """Scale by iteratively reweighted least squares on the absolute error."""
    scale = gt.mean() / pred.mean()
    for _ in range(iterations):
        weight = 1 / ((scale * pred - gt).abs() + 1e-8)
        scale = (weight * pred * gt).sum() / (weight * pred * pred).sum()
    return scale.clamp_min(1e-3)


def _least_squares(pred: Tensor, gt: Tensor, weight: Tensor | None = None) -> tuple:
    weight = torch.ones_like(pred) if weight is None else weight
    weight = weight / weight.sum()
    mean_p, mean_g = (weight * pred).sum(), (weight * gt).sum()
    variance = (weight * (pred - mean_p) ** 2).sum()
    covariance = (weight * (pred - mean_p) * (gt - mean_g)).sum()
    scale = covariance / variance.clamp_min(1e-12)
    return scale, mean_g - scale * mean_p


def _least_absolute(pred: Tensor, gt: Tensor, iterations: int = 200) -> tuple:
    """Scale and shift with the least sum of absolute errors (reweighting, shrinking floor)."""
    scale, shift = _least_squares(pred, gt)
    floor = (scale * pred + shift - gt).abs().mean()
    for _ in range(iterations):
        residual = (scale * pred + shift - gt).abs()
        new_scale, new_shift = _least_squares(pred, gt, 1 / residual.clamp_min(floor))
        change = (new_scale - scale).abs() / scale.abs().clamp_min(1e-12)
        scale, shift = new_scale, new_shift
        if floor <= 1e-9 * gt.mean() and change < 1e-12:
            break
        floor = torch.maximum(floor * 0.8, 1e-9 * gt.mean())
    return scale, shift


def _adam_absolute(pred: Tensor, gt: Tensor, lr: float = 1e-4, steps: int = 1000) -> tuple:
    """The published fit: a short Adam run from the median ratio, which hardly moves."""
    pred, gt = pred.float(), gt.float()
    scale = _median_ratio(pred, gt).clone().requires_grad_()
    shift = torch.zeros_like(scale).requires_grad_()
    optimizer = torch.optim.Adam([scale, shift], lr=lr)
    previous = None
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            loss = (scale * pred + shift - gt).abs().sum()
            loss.backward()
            optimizer.step()
            value = loss.item()
            if previous is not None and abs(previous - value) < 1e-6:
                break
            previous = value
    return scale.detach().double(), shift.detach().double()


def align_depth(pred: Tensor, gt: Tensor, alignment: str) -> tuple[float, float]:
    """Scale and shift that bring predicted depths closest to true ones.

    Args:
        pred: Valid predicted depths ``(N,)``.
        gt: True depths ``(N,)``.
        alignment: ``'median'``: ratio of (lower) medians. ``'scale'``: ten reweighted
            steps on the absolute error. ``'scale&shift'``: least absolute error.
            ``'scale&shift_upstream'``: the published Adam run with lr 1e-4. ``'lstsq'``:
            least squares. ``'metric'``: nothing.

    Returns:
        Scale and shift.
    """
    # Single pixels dominate the weights of 'scale', so rounding must not matter.
    pred, gt = pred.double(), gt.double()
    if alignment == "median":
        return float(_median_ratio(pred, gt)), 0.0
    if alignment == "scale":
        return float(_robust_scale(pred, gt)), 0.0
    if alignment == "metric":
        return 1.0, 0.0
    fits = {
        "scale&shift": _least_absolute,
        "scale&shift_upstream": _adam_absolute,
        "lstsq": _least_squares,
    }
    check_choice("alignment", alignment, ALIGNMENTS)
    scale, shift = fits[alignment](pred, gt)
    return float(scale), float(shift)


def depth_errors(pred: Tensor, gt: Tensor) -> dict[str, float]:
    """Errors of aligned depths ``(N,)``, by the names of :data:`DEPTH_METRICS`."""
    if len(gt) == 0:
        return dict.fromkeys(DEPTH_METRICS, 0.0)
    difference = pred - gt
    # A negative depth must not count as an inlier, nor have a logarithm.
    clamped = pred.clamp_min(MIN_DEPTH)
    ratio = torch.maximum(clamped / gt, gt / clamped)
    values = [
        (difference.abs() / gt).mean(),
        (difference**2 / gt).mean(),
        (difference**2).mean().sqrt(),
        ((clamped.log() - gt.log()) ** 2).mean().sqrt(),
        *((ratio < 1.25**power).double().mean() for power in range(4)),
    ]
    return dict(zip(DEPTH_METRICS, map(float, values)))


def evaluate_depth(
    pred: Tensor,
    gt: Tensor,
    alignment: str = "median",
    max_depth: float | None = None,
    post_clip: float | None = None,
) -> dict[str, float]:
    """Mask, align, clip, measure.

    Args:
        pred: Predicted z-depth, any shape; one set of pixels is aligned as a whole.
        gt: True z-depth, same shape; values at or below 0 are invalid.
        alignment: See :func:`align_depth`. Defaults to ``'median'``.
        max_depth: True depths at or above it are invalid. Defaults to None.
        post_clip: Aligned depths are cut at it. Defaults to None.

    Returns:
        :data:`DEPTH_METRICS`, ``valid_pixels``, and the ``scale`` and ``shift`` used.
    """
    if pred.shape != gt.shape:
        raise ValueError(
            f"pred, gt: expected one shape, got {tuple(pred.shape)} and {tuple(gt.shape)}: "
            "resize the prediction first"
        )
    valid = gt > 0
    if max_depth is not None:
        valid &= gt < max_depth
    pred, gt = pred[valid].double(), gt[valid].double()
    scale, shift = align_depth(pred, gt, alignment) if len(gt) else (1.0, 0.0)
    aligned = scale * pred + shift
    if post_clip is not None:
        aligned = aligned.clamp_max(post_clip)
    return {
        **depth_errors(aligned, gt),
        "valid_pixels": float(len(gt)),
        "scale": scale,
        "shift": shift,
    }


def average_depth_metrics(results: list[dict[str, float]]) -> dict[str, float]:
    """Mean of several results, weighted by their valid pixels."""
    total = sum(result["valid_pixels"] for result in results)
    return {
        name: sum(r[name] * r["valid_pixels"] for r in results) / max(total, 1.0)
        for name in DEPTH_METRICS
    }
