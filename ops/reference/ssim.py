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


def plane_means(images: Tensor) -> Tensor:
    """Mean of each plane [B, C], without gradient; the same bits for any number of threads."""
    values = images.detach().contiguous()
    # Half precision rounds the mean; kernels see such images in float32.
    values = values if values.dtype == torch.float64 else values.float()
    return values.mean(-1).mean(-1)


def ssim_map(img1: Tensor, img2: Tensor) -> Tensor:
    """SSIM of each pixel with zero padding.

    Variances come from the images less the mean of their plane: squares of the images themselves
    would round away what differs in flat pictures.

    Args:
        img1: Image in [0, 1], [B, C, H, W].
        img2: Image in [0, 1], [B, C, H, W].

    Returns:
        Map [B, C, H, W].
    """
    channels = img1.shape[1]
    taps = gaussian_window(img1.dtype, img1.device).expand(channels, 1, 1, -1)

    def blur(image: Tensor) -> Tensor:
        rows = F.conv2d(image, taps, groups=channels)
        return F.conv2d(rows, taps.mT, groups=channels)

    center1, center2 = plane_means(img1)[..., None, None], plane_means(img2)[..., None, None]
    x1 = F.pad(img1, (WINDOW_SIZE // 2,) * 4) - center1
    x2 = F.pad(img2, (WINDOW_SIZE // 2,) * 4) - center2
    mean1, mean2 = blur(x1), blur(x2)
    var1 = (blur(x1 * x1) - mean1 * mean1).clamp(min=0)
    var2 = (blur(x2 * x2) - mean2 * mean2).clamp(min=0)
    cov = blur(x1 * x2) - mean1 * mean2
    mu1, mu2 = mean1 + center1, mean2 + center2
    return ((2 * mu1 * mu2 + C1) * (2 * cov + C2)) / (
        (mu1 * mu1 + mu2 * mu2 + C1) * (var1 + var2 + C2)
    )
