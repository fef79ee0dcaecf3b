"""Attention blocks, embeddings and correlation of the point tracker."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcity.models.layers import Mlp


class PackedAttention(nn.Module):
    """Attention with the parameter names of ``torch.nn.MultiheadAttention``."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Queries ``x`` ``(B, N, dim)`` attend to ``context`` ``(B, M, dim)``."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(source, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for source, weight, bias in zip((x, context, context), weights, biases)
        )
        out = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class TrackBlock(nn.Module):
    """Self attention block that normalises before the residual is taken."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.attn = PackedAttention(dim, num_heads)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(B, N, dim)``."""
        x = self.norm1(x)
        x = x + self.attn(x, x)
        return x + self.mlp(self.norm2(x))


class TrackCrossBlock(nn.Module):
    """Cross attention block; as :class:`TrackBlock`, the context is normalised too."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.cross_attn = PackedAttention(dim, num_heads)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Let ``x`` ``(B, N, dim)`` attend to ``context`` ``(B, M, dim)``."""
        x = self.norm1(x)
        x = x + self.cross_attn(x, self.norm_context(context))
        return x + self.mlp(self.norm2(x))


def sample_features(maps: Tensor, points: Tensor, padding_mode: str) -> Tensor:
    """Bilinear samples of ``(N, C, H, W)`` at pixel points ``(N, M, 2)`` -> ``(N, M, C)``.

    Pixel x lies at grid coordinate ``2 * x / max(W - 1, 1) - 1`` (aligned corners).
    """
    height, width = maps.shape[-2:]
    x, y = points.unbind(-1)
    scaled = (2 * x / max(width - 1, 1), 2 * y / max(height - 1, 1))
    grid = torch.stack(scaled, dim=-1)[:, :, None] - 1  # (N, M, 1, 2)
    out = F.grid_sample(maps, grid, padding_mode=padding_mode, align_corners=True)
    return out[..., 0].transpose(1, 2)


def embed_flow(flow: Tensor, channels: int) -> Tensor:
    """Sine-cosine embedding of displacements ``(..., 2)`` in feature pixels.

    Frequencies reach 1000 rad per feature pixel, so this needs float32 or better.

    Returns:
        ``(..., channels)``; x first, sine and cosine alternating.
    """
    half = channels // 2
    frequencies = torch.arange(0, half, 2, device=flow.device, dtype=flow.dtype) * (1000.0 / half)
    angles = flow[..., None] * frequencies  # (..., 2, half / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-3)


def _axis_table(length: int, channels: int, device: torch.device) -> Tensor:
    quarter = channels // 2
    exponent = torch.arange(quarter, dtype=torch.float64, device=device) / quarter
    angles = torch.arange(length, dtype=torch.float64, device=device)[:, None] * 10000.0**-exponent
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float()


def _interpolate_rows(table: Tensor, positions: Tensor) -> Tensor:
    """Rows of ``(L, C)`` at fractional positions, clamped to the border."""
    positions = positions.clamp(0, len(table) - 1)
    below = positions.floor().long().clamp(max=max(len(table) - 2, 0))
    weight = (positions - below).unsqueeze(-1)
    above = (below + 1).clamp(max=len(table) - 1)
    return table[below] * (1 - weight) + table[above] * weight


def embed_start(points: Tensor, height: int, width: int, channels: int) -> Tensor:
    """Position embedding of the query points, ``(..., channels)``.

    The first half of the channels embeds the column, the second half the row; between
    integer positions the embedding is interpolated linearly.

    Args:
        points: Feature pixels (x, y), ``(..., 2)``.
        height: Rows of the feature map.
        width: Columns of the feature map.
        channels: Channels of the embedding, divisible by 4.
    """
    if channels % 4:
        raise ValueError(f"channels: expected a multiple of 4, got {channels}")
    of_x = _interpolate_rows(_axis_table(width, channels // 2, points.device), points[..., 0])
    of_y = _interpolate_rows(_axis_table(height, channels // 2, points.device), points[..., 1])
    return torch.cat([of_x, of_y], dim=-1)


class CorrelationPyramid:
    """Similarity of track features to feature maps around the current positions.

    Args:
        maps: Normalised features ``(B, S, C, H, W)``.
        levels: Pyramid levels; each halves the resolution.
        radius: Half width of the square neighbourhood in pixels of the level.
    """

    def __init__(self, maps: Tensor, levels: int, radius: int) -> None:
        self.batch_shape = maps.shape[:2]
        pyramid = [maps.flatten(0, 1)]
        for _ in range(levels - 1):
            pyramid.append(F.avg_pool2d(pyramid[-1], 2, stride=2))
        self.pyramid = pyramid
        offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
        # The x offset varies slowest.
        self.delta = torch.stack(torch.meshgrid(offsets, offsets, indexing="ij"), -1).flatten(0, 1)

    def __call__(self, features: Tensor, coords: Tensor) -> Tensor:
        """Correlate ``(B, S, N, C)`` features around ``(B, S, N, 2)`` -> ``(B, S, N, L*K)``."""
        features, coords = features.flatten(0, 1), coords.flatten(0, 1)  # (B*S, N, .)
        out = []
        for level, maps in enumerate(self.pyramid):
            points = coords[:, :, None] / 2**level + self.delta  # (B*S, N, K, 2)
            # Sampling is linear, so features are sampled and then multiplied: memory grows
            # with the number of tracks and not with tracks times pixels.
            sampled = sample_features(maps, points.flatten(1, 2), "zeros")
            sampled = sampled.unflatten(1, points.shape[1:3])  # (B*S, N, K, C)
            out.append(torch.einsum("bnkc,bnc->bnk", sampled, features) / maps.shape[1] ** 0.5)
        return torch.cat(out, dim=-1).unflatten(0, self.batch_shape)
