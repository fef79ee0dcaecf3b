"""The pre-norm transformer block shared by the vision transformers."""

import torch
from torch import Tensor, nn

from mmcity.utils.checks import check_choice

from .attention import Attend, Attention
from .mlp import Mlp, SwiGLU


class LayerScale(nn.Module):
    """Learned per-channel factor on a residual branch (CaiT, arXiv 2103.17239)."""

    def __init__(self, dim: int, init_value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(init_value * torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Scale ``(..., dim)``."""
        return x * self.gamma


class TransformerBlock(nn.Module):
    """``x += ls1 * attn(norm1(x)); x += ls2 * mlp(norm2(x))``.

    Args:
        dim: Channels.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the feed-forward part over ``dim``. Defaults to 4.
        qk_norm: Normalise queries and keys per head. Defaults to False.
        layer_scale: Initial residual factor; None for no factor. Defaults to 0.01.
        norm_eps: Epsilon of ``norm1`` and ``norm2``. Defaults to 1e-5.
        ffn: ``'mlp'`` or ``'swiglu'``. Defaults to ``'mlp'``.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qk_norm: bool = False,
        layer_scale: float | None = 0.01,
        norm_eps: float = 1e-5,
        ffn: str = "mlp",
    ) -> None:
        super().__init__()
        check_choice("ffn", ffn, ("mlp", "swiglu"))
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads, qk_norm=qk_norm)
        self.ls1 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = (Mlp if ffn == "mlp" else SwiGLU)(dim, int(dim * mlp_ratio), dim)
        self.ls2 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor] | None = None, attend: Attend | None = None
    ) -> Tensor:
        """Transform ``(B, N, dim)``; see :meth:`Attention.forward` for the arguments."""
        x = x + self.ls1(self.attn(self.norm1(x), rope, attend))
        return x + self.ls2(self.mlp(self.norm2(x)))
