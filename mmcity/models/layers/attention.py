"""Multi-head attention through torch's scaled-dot-product kernels."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rope import apply_rope

#: Computes attention from queries, keys and values, each ``(B, heads, N, head_dim)``.
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def frame_causal_attention(
    q: Tensor, k: Tensor, v: Tensor, step_tokens: int, window: int | None = None
) -> Tensor:
    """Attention in which a token sees all tokens of its own and of earlier time steps.

    One kernel call per step on a prefix of the keys: the memory stays linear in the number
    of tokens and no mask is built.

    Args:
        q: Queries ``(B, heads, N, head_dim)``, N a multiple of ``step_tokens``.
        k: Keys, same shape.
        v: Values, same shape.
        step_tokens: Tokens per time step (one frame, or all frames of a rig).
        window: If given, a step sees only the first step and the last ``window`` steps,
            itself included.

    Returns:
        ``(B, heads, N, head_dim)``.
    """
    tokens = q.shape[-2]
    if tokens % step_tokens:
        raise ValueError(f"tokens: expected a multiple of step_tokens {step_tokens}, got {tokens}")
    if step_tokens == 1 and window is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    outputs = []
    for step in range(tokens // step_tokens):
        end = (step + 1) * step_tokens
        keys, values = k[..., :end, :], v[..., :end, :]
        if window is not None and step >= window + 1:
            start = end - window * step_tokens
            keys = torch.cat([keys[..., :step_tokens, :], keys[..., start:, :]], dim=-2)
            values = torch.cat([values[..., :step_tokens, :], values[..., start:, :]], dim=-2)
        outputs.append(
            F.scaled_dot_product_attention(q[..., end - step_tokens : end, :], keys, values)
        )
    return torch.cat(outputs, dim=-2)


class Attention(nn.Module):
    """Self attention with a fused projection, optional qk-norm and rotary positions.

    Args:
        dim: Channels.
        num_heads: Attention heads; ``dim`` must be a multiple.
        qk_norm: Normalise queries and keys per head before the rotation.
            Defaults to False.
        norm_eps: Epsilon of these norms. Defaults to 1e-5.
    """

    def __init__(
        self, dim: int, num_heads: int, qk_norm: bool = False, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim: expected a multiple of num_heads {num_heads}, got {dim}")
        self.num_heads = num_heads
        head_dim = dim // num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = nn.LayerNorm(head_dim, eps=norm_eps) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(head_dim, eps=norm_eps) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def project(
        self, x: Tensor, rope: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values after norm and rotation, each ``(B, heads, N, head_dim)``."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, heads, d)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = apply_rope(q, *rope), apply_rope(k, *rope)
        # Norm and rotation run in float32 under autocast; the kernel wants one dtype.
        return q.to(v.dtype), k.to(v.dtype), v

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor] | None = None, attend: Attend | None = None
    ) -> Tensor:
        """Attend within ``x`` ``(B, N, dim)``.

        Args:
            x: Tokens.
            rope: Tables of :func:`rope_tables_2d`, ``(P, head_dim)`` each.
            attend: Replaces plain full attention, e.g. by the causal form or by one that
                reads and feeds a cache.
        """
        q, k, v = self.project(x, rope)
        out = (attend or F.scaled_dot_product_attention)(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2))
