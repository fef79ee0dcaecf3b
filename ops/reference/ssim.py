"""Structural similarity written with plain convolutions: the oracle of ``fused_ssim``."""

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW_SIZE = 11
WINDOW_SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2


def gaussian_window(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The 11 normalized taps of the window, [11]."""
    offset = torch.arange(WINDOW_SIZE, dtype=torch.float64, device=device) - WINDOW_SIZE // 2
    taps = torch.exp(-(offset**2) / (2 * WINDOW_SIGMA**2))
    return (taps / taps.sum()).to(dtype)


def ssim_map(img1: Tensor, img2: Tensor) -> Tensor:
    """SSIM of each pixel with zero padding.

    Args:
        img1: Image in [0, 1], [B, C, H, W].
        img2: Image in [0, 1], [B, C, H, W].

    Returns:
        Map [B, C, H, W].
    """
    channels = img1.shape[1]
    taps = gaussian_window(img1.dtype, img1.device)
    window = torch.outer(taps, taps).expand(channels, 1, WINDOW_SIZE, WINDOW_SIZE)

    def blur(image: Tensor) -> Tensor:
        return F.conv2d(image, window, padding=WINDOW_SIZE // 2, groups=channels)

    mu1, mu2 = blur(img1), blur(img2)
    var1 = (blur(img1 * img1) - mu1 * mu1).clamp(min=0)
    var2 = (blur(img2 * img2) - mu2 * mu2).clamp(min=0)
    cov = blur(img1 * img2) - mu1 * mu2
    return ((2 * mu1 * mu2 + C1) * (2 * cov + C2)) / (
        (mu1 * mu1 + mu2 * mu2 + C1) * (var1 + var2 + C2)
    )
