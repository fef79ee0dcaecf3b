"""Rotary position embedding over the two axes of an image."""

import torch
from torch import Tensor


def rope_tables_2d(positions: Tensor, head_dim: int, base: float = 100.0) -> tuple[Tensor, Tensor]:
    """Cosine and sine tables of a 2D rotary embedding.

    The first half of the head turns with y, the second half with x. Within a half of D
    channels the angle of channel k and k + D/2 is ``position * base ** (-2k / D)``.

    Args:
        positions: Grid coordinates (y, x), ``(..., 2)``, integer or float.
        head_dim: Channels per attention head, divisible by 4.
        base: Slowest wavelength in radians. Defaults to 100.

    Returns:
        Two float32 tensors ``(..., head_dim)``.
    """
    if head_dim % 4:
        raise ValueError(f"head_dim: expected a multiple of 4 for 2D RoPE, got {head_dim}")
    half = head_dim // 2
    exponent = torch.arange(0, half, 2, device=positions.device, dtype=torch.float32) / half
    inv_freq = base**-exponent  # (half / 2,)
    angles = positions.to(torch.float32).unsqueeze(-1) * inv_freq  # (..., 2, half / 2)
    angles = torch.cat([angles, angles], dim=-1).flatten(-2)  # (..., head_dim), y then x
    return angles.cos(), angles.sin()


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate queries or keys.

    Args:
        x: ``(..., N, head_dim)``; N a multiple of the table length P. Longer sequences are
            repetitions (frames share positions).
        cos: ``(P, head_dim)``.
        sin: ``(P, head_dim)``.
    """
    shape = x.shape
    x = x.unflatten(-2, (-1, cos.shape[0]))  # (..., S, P, head_dim)
    quarters = x.unflatten(-1, (2, 2, -1))  # y and x half, each cut in two
    first, second = quarters.unbind(-2)
    rotated = torch.stack([-second, first], dim=-2).flatten(-3)
    return (x * cos + rotated * sin).reshape(shape)
