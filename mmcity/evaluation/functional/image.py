"""Image quality: pure functions on (..., 3, H, W) tensors with values in [0, 1]."""

import math

import torch
from torch import Tensor

from mmcity_ops.reference.ssim import ssim_map


def _check_pair(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape or prediction.ndim < 3:
        raise ValueError(
            "prediction, target: expected images (..., C, H, W) of one shape, got "
            f"{tuple(prediction.shape)} and {tuple(target.shape)}"
        )


def mean_squared_error(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of the squared differences over channels and (masked) pixels, in float64.

    Args:
        prediction: (..., C, H, W).
        target: Same shape.
        mask: (..., H, W) bool, True where a pixel counts. An image without any counting
            pixel gives NaN. Defaults to all pixels.

    Returns:
        (...,) float64.
    """
    _check_pair(prediction, target)
    squared = (prediction.double() - target.double()).square()
    if mask is None:
        return squared.mean(dim=(-3, -2, -1))
    weight = mask.to(squared).expand(squared.shape[:-3] + squared.shape[-2:])
    total = (squared.mean(dim=-3) * weight).sum(dim=(-2, -1))
    return total / weight.sum(dim=(-2, -1))


def psnr(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal to noise ratio in dB, ``-10 log10(MSE)`` with peak 1, per image.

    The mean squared error is taken over all channels and pixels of one image (not per
    channel), as the papers of the field do. Equal images give infinity.

    Args:
        prediction: (..., C, H, W) in [0, 1].
        target: Same shape.
        mask: (..., H, W) bool, pixels that count. Defaults to all.

    Returns:
        (...,) float64.
    """
    return -10.0 / math.log(10.0) * mean_squared_error(prediction, target, mask).log()


def ssim(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity (Wang et al. 2004), Gaussian window 11, sigma 1.5, zero padding.

    Means over channels and all (masked) pixels, in float64.

    Args:
        prediction: (..., C, H, W) in [0, 1].
        target: Same shape.
        mask: (..., H, W) bool, centres of the windows that count. Defaults to all.

    Returns:
        (...,) float64.
    """
    _check_pair(prediction, target)
    lead = prediction.shape[:-3]
    height, width = prediction.shape[-2:]
    first = prediction.double().reshape(-1, 1, height, width)
    second = target.double().reshape(-1, 1, height, width)
    similarity = ssim_map(first, second).reshape(*lead, -1, height, width)
    similarity = similarity.mean(dim=-3)  # (..., H, W)
    if mask is None:
        return similarity.mean(dim=(-2, -1))
    weight = mask.to(similarity).expand_as(similarity)
    return (similarity * weight).sum(dim=(-2, -1)) / weight.sum(dim=(-2, -1))


def colour_correct(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Map the colours of a render onto a photograph by one affine transform.

    The 3x4 transform is the least-squares fit over the (masked) pixels of this very
    image. A number computed after it tells how much of an error is exposure and white
    balance; since it looks at the test image, it stands beside the raw number and never
    replaces it.

    Args:
        prediction: (3, H, W) in [0, 1].
        target: (3, H, W) in [0, 1].
        mask: (H, W) bool, pixels used for the fit. Defaults to all.

    Returns:
        (3, H, W) corrected prediction, clamped to [0, 1], dtype of ``prediction``.
    """
    _check_pair(prediction, target)
    if prediction.ndim != 3:
        raise ValueError(f"expected one image (3, H, W), got {tuple(prediction.shape)}")
    source = prediction.double().flatten(1).T  # (P, 3)
    wanted = target.double().flatten(1).T
    design = torch.cat([source, torch.ones_like(source[:, :1])], dim=1)  # (P, 4)
    used = slice(None) if mask is None else mask.flatten()
    # Normal equations with a tiny ridge towards the identity keep flat images solvable.
    rows, values = design[used], wanted[used]
    ridge = 1e-6 * max(rows.shape[0], 1)
    identity = torch.eye(4, 3, dtype=torch.float64, device=source.device)
    left = rows.T @ rows + ridge * torch.eye(4, dtype=torch.float64, device=source.device)
    right = rows.T @ values + ridge * identity
    corrected = design @ torch.linalg.solve(left, right)
    return corrected.T.reshape(prediction.shape).clamp(0, 1).to(prediction.dtype)
