"""Layer norm over the channels of each pixel."""

import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """``nn.LayerNorm`` for ``(B, C, H, W)``: mean and variance over C at every pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)`` over its channels."""
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)
