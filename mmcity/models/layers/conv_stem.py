"""Patch embedding by a few convolutions, for small transformers trained from scratch."""

import torch.nn.functional as F
from torch import Tensor, nn

from .patches import patch_tokens


class _Residual(nn.Module):
    """``x + conv(gelu(conv(gelu(x))))`` at one resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.gelu(self.conv1(F.gelu(x))))


class ConvStem(nn.Module):
    """Strided and residual 3x3 convolutions, then a linear map of each patch.

    Small transformers learn faster behind convolutions than behind one linear map
    (arXiv 2106.14881).

    Args:
        patch_size: Side of a patch in pixels, a multiple of 4.
        embed_dim: Output channels.
        width: Channels at half resolution; twice as many at a quarter. Defaults to 32.
        num_blocks: Residual blocks at a quarter of the resolution. Defaults to 3.
    """

    def __init__(
        self, patch_size: int, embed_dim: int, width: int = 32, num_blocks: int = 3
    ) -> None:
        super().__init__()
        if patch_size % 4:
            raise ValueError(f"patch_size: expected a multiple of 4, got {patch_size}")
        self.patch_size = patch_size
        rest = patch_size // 4
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            *(_Residual(2 * width) for _ in range(num_blocks)),
            nn.GELU(),
            nn.Conv2d(2 * width, embed_dim, rest, stride=rest),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Tokens ``(N, h * w, C)`` of images ``(N, 3, H, W)``, see :func:`patch_tokens`."""
        return patch_tokens(self.layers, images, self.patch_size)
