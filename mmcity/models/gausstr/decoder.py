"""Transformer decoder of GaussTR: queries look at image features around reference points."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcity.models.layers.deformable_attention import MultiScaleDeformableAttention
from mmcity.models.layers.mlp import Mlp
from mmcity.registry import MODELS

from .geometry import inverse_sigmoid, sine_encode
from .mlp import MLP


class _SelfAttention(nn.Module):
    def __init__(self, embed_dims: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(embed_dims, num_heads, dropout, batch_first=True)

    def forward(self, query: Tensor, query_pos: Tensor) -> Tensor:
        key = query + query_pos
        return query + self.attn(key, key, query, need_weights=False)[0]


class GaussTRDecoderLayer(nn.Module):
    """Deformable cross-attention, self-attention, feed-forward; each followed by a norm.

    Args:
        embed_dims: Channels E. Defaults to 256.
        self_attn_heads: Heads of the self-attention. Defaults to 8.
        cross_attn_heads: Heads of the cross-attention. Defaults to 8.
        num_levels: Feature levels. Defaults to 4.
        num_points: Points per level. Defaults to 4.
        ffn_channels: Width of the feed-forward part. Defaults to 2048.
        cross_attn_dropout: Defaults to 0.1.
        dropout: Of self-attention and feed-forward. Defaults to 0.0.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        self_attn_heads: int = 8,
        cross_attn_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        ffn_channels: int = 2048,
        cross_attn_dropout: float = 0.1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.self_attn = _SelfAttention(embed_dims, self_attn_heads, dropout)
        self.cross_attn = MultiScaleDeformableAttention(
            embed_dims, cross_attn_heads, num_levels, num_points, cross_attn_dropout
        )
        self.ffn = Mlp(
            embed_dims, ffn_channels, embed_dims, keys=("layers.0.0", "layers.1"),
            activation=F.relu, dropout=dropout,
        )  # fmt: skip
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dims) for _ in range(3))

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        value: Tensor,
        reference_points: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
        num_views: int = 1,
    ) -> Tensor:
        """One layer on ``(B*N, Q, E)``; ``num_views`` > 1 lets queries of all views attend."""
        query = self.norms[0](
            self.cross_attn(query, query_pos, value, reference_points, spatial_shapes)
        )
        if num_views > 1:
            shape = query.shape
            joined = (len(query) // num_views, -1, shape[-1])
            query = self.self_attn(query.reshape(joined), query_pos.reshape(joined)).view(shape)
        else:
            query = self.self_attn(query, query_pos)
        query = self.norms[1](query)
        return self.norms[2](query + self.ffn(query))


@MODELS.register_module()
class GaussTRDecoder(nn.Module):
    """Layers that refine reference points with the heads' own regressors.

    Args:
        num_layers: Layers L. Defaults to 3.
        layer_cfg: Arguments of :class:`GaussTRDecoderLayer`.
        cross_view_attn: Let the queries of all cameras of a sample attend to one another.
            Defaults to False (queries of one camera only, as published).
    """

    def __init__(
        self, num_layers: int = 3, layer_cfg: dict | None = None, cross_view_attn: bool = False
    ) -> None:
        super().__init__()
        layer_cfg = dict(layer_cfg or {})
        embed_dims = layer_cfg.get("embed_dims", 256)
        self.embed_dims = embed_dims
        self.cross_view_attn = cross_view_attn
        self.layers = nn.ModuleList(GaussTRDecoderLayer(**layer_cfg) for _ in range(num_layers))
        self.ref_point_head = MLP(embed_dims, embed_dims, embed_dims)
        self.norm = nn.LayerNorm(embed_dims)

    def query_position(self, reference_points: Tensor) -> Tensor:
        """Positional part of the queries ``(B*N, Q, E)``."""
        encoded = sine_encode(reference_points, self.embed_dims // 2)
        return self.ref_point_head(encoded.to(self.norm.weight.dtype))

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        reference_points: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
        reg_branches: Sequence[nn.Module],
        num_views: int = 1,
    ) -> tuple[Tensor, Tensor]:
        """Decode.

        Args:
            query: ``(B*N, Q, E)``.
            value: ``(B*N, S, E)`` flattened feature levels.
            reference_points: ``(B*N, Q, 2)`` x, y in [0, 1].
            spatial_shapes: Height and width of each of the L levels.
            reg_branches: One regressor per layer; its first two outputs move the points.
            num_views: Cameras N per sample, for ``cross_view_attn``.

        Returns:
            Normalised outputs ``(layers, B*N, Q, E)`` and refined points
            ``(layers, B*N, Q, 2)``.
        """
        outputs, references = [], []
        views = num_views if self.cross_view_attn else 1
        for layer, regress in zip(self.layers, reg_branches):
            position = self.query_position(reference_points)
            query = layer(query, position, value, reference_points, spatial_shapes, views)
            moved = regress(query)[..., :2] + inverse_sigmoid(reference_points)
            reference_points = moved.sigmoid().detach()
            outputs.append(self.norm(query))
            references.append(reference_points)
        return torch.stack(outputs), torch.stack(references)
