"""A picture as the camera of the pose network would have taken it."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["canonical_K", "canonical_view"]


def canonical_K(size: tuple[int, int], focal: float) -> Tensor:
    """``(3, 3)`` of square pixels with the principal point in the middle of ``(h, w)``."""
    height, width = size
    return torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])


def canonical_view(
    image: Tensor, K: Tensor, size: tuple[int, int], focal: float
) -> tuple[Tensor, float]:
    """Resample a picture to a camera with the same axes and centre.

    The first part is an antialiased resize to about the wanted focal length, the second a
    bilinear one with what remains (shift of the principal point, rounding). Beyond the border
    its colours go on.

    Args:
        image (Tensor): ``(3, H, W)``.
        K (Tensor): ``(3, 3)`` intrinsics of the picture, px.
        size (tuple[int, int]): Height and width to make.
        focal (float): Focal length to make, px.

    Returns:
        tuple[Tensor, float]: ``(3, h, w)``, and the share of it that the picture shows.
    """
    K = K.to(image.device, torch.float32)
    old = torch.tensor(image.shape[-2:])
    new = (old * focal / K.diagonal()[[1, 0]].cpu()).round().long().clamp_min(1)
    if not torch.equal(new, old):
        image = F.interpolate(image[None], new.tolist(), mode="bilinear", antialias=True)[0]
    ratio = (new / old).flip(0).to(image.device)  # of x and y
    scale, center = K.diagonal()[:2] * ratio / focal, K[:2, 2] * ratio
    middle = torch.tensor([size[1], size[0]], device=image.device) / 2
    rows, columns = (torch.arange(side, device=image.device) + 0.5 for side in size)
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)  # (h, w, 2)
    # Pixel centres at +0.5: 2 u / width - 1 is what grid_sample without align_corners takes.
    grid = 2 * ((pixels - middle) * scale + center) / new.flip(0).to(image.device) - 1
    seen = float((grid.abs() <= 1).all(-1).float().mean())
    out = F.grid_sample(image[None], grid[None], "bilinear", "border", align_corners=False)
    return out[0], seen
