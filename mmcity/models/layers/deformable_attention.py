"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcity.structures import to_device


def sample_multi_scale(
    value: Tensor, spatial_shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Weighted bilinear samples from several feature maps.

    Args:
        value: ``(B, S, heads, C)``, the levels one after another, each row-major.
        spatial_shapes: Height and width of each of the L levels.
        locations: ``(B, Q, heads, L, P, 2)`` x, y in [0, 1], edges of the map at 0 and 1.
        weights: ``(B, Q, heads, L, P)``.

    Returns:
        ``(B, Q, heads * C)``; samples outside a map are zero.
    """
    batch, _, heads, channels = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    sizes = [(int(h), int(w)) for h, w in spatial_shapes]
    sampled = []
    for level, part in enumerate(value.split([h * w for h, w in sizes], dim=1)):
        maps = part.permute(0, 2, 3, 1).reshape(batch * heads, channels, *sizes[level])
        grid = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)  # (B*h, Q, P, 2)
        sampled.append(
            F.grid_sample(
                maps, grid.to(maps.dtype), "bilinear", padding_mode="zeros", align_corners=False
            )
        )
    stacked = torch.stack(sampled, dim=-2)  # (B*h, C, Q, L, P)
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, len(sizes), points)
    out = (stacked * weights).sum((-2, -1))
    return out.view(batch, heads * channels, queries).transpose(1, 2)


class MultiScaleDeformableAttention(nn.Module):
    """Attention that looks at a few learned points of each level.

    Args:
        embed_dims: Channels E.
        num_heads: Heads. Defaults to 8.
        num_levels: Feature levels. Defaults to 4.
        num_points: Points per level and head. Defaults to 4.
        dropout: Of the output. Defaults to 0.1.

    Attributes:
        sampler: What :func:`sample_multi_scale` does. Plain torch on any device; the bridge
            ``mmcity.compat.mmdet3d`` puts mmcv's kernel here for CUDA tensors.
    """

    sampler = staticmethod(sample_multi_scale)

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(
                f"embed_dims: expected multiple of {num_heads} heads, got {embed_dims}"
            )
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dims, samples * 2)
        self.attention_weights = nn.Linear(embed_dims, samples)
        self.value_proj = nn.Linear(embed_dims, embed_dims)
        self.output_proj = nn.Linear(embed_dims, embed_dims)
        self.dropout = nn.Dropout(dropout)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        nn.init.zeros_(self.sampling_offsets.weight)
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1).float()
        bias = directions[:, None, None] * steps[None, None, :, None]  # (heads, 1, points, 2)
        bias = bias.expand(-1, self.num_levels, -1, -1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(bias.reshape(-1))
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor | None,
        value: Tensor,
        reference_points: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Attend and add the query.

        Args:
            query: ``(B, Q, E)``.
            query_pos: Positional part, added to the query for offsets and weights only.
            value: ``(B, S, E)`` flattened levels.
            reference_points: ``(B, Q, 2)`` x, y in [0, 1], the same for all levels.
            spatial_shapes: Height and width of each of the L levels.

        Returns:
            ``(B, Q, E)``, residual included.
        """
        batch, queries = query.shape[:2]
        source = query if query_pos is None else query + query_pos
        shape = (batch, queries, self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(source).view(*shape, 2)
        weights = self.attention_weights(source).view(*shape[:3], -1).softmax(-1).view(shape)
        sizes = torch.tensor([(int(w), int(h)) for h, w in spatial_shapes], dtype=offsets.dtype)
        sizes = to_device(sizes, offsets.device)[:, None]  # (L, 1, 2)
        locations = reference_points[:, :, None, None, None] + offsets / sizes
        value = self.value_proj(value).unflatten(-1, (self.num_heads, -1))
        out = self.output_proj(self.sampler(value, spatial_shapes, locations, weights))
        return self.dropout(out) + query
