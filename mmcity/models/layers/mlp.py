"""Feed-forward parts of a transformer block."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Mlp", "SwiGLU"]


class Mlp(nn.Module):
    """Two linear layers with exact GELU between them.

    Args:
        in_features: Input channels.
        hidden_features: Channels between the layers.
        out_features: Output channels. Defaults to ``in_features``.
    """

    def __init__(
        self, in_features: int, hidden_features: int, out_features: int | None = None
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.fc2 = nn.Linear(hidden_features, out_features or in_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        return self.fc2(F.gelu(self.fc1(x)))


class SwiGLU(nn.Module):
    """Gated feed-forward of the giant DINOv2 model; parameter names ``w12`` and ``w3``.

    The hidden width is two thirds of the nominal one, rounded up to a multiple of 8, so
    that the parameter count matches that of :class:`Mlp`.
    """

    def __init__(
        self, in_features: int, hidden_features: int, out_features: int | None = None
    ) -> None:
        super().__init__()
        hidden = (int(hidden_features * 2 / 3) + 7) // 8 * 8
        self.w12 = nn.Linear(in_features, 2 * hidden)
        self.w3 = nn.Linear(hidden, out_features or in_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        gate, value = torch.chunk(self.w12(x), 2, dim=-1)
        return self.w3(F.silu(gate) * value)
