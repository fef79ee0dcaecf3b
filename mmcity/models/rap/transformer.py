"""Transformer encoder that gathers a feature map into one pose token."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcity.utils.checks import check_choice


class PositionCodes(nn.Module):
    """Learned codes of columns, rows and of the pose token.

    Args:
        dim (int): Channels of a code, even.
        table_size (int): Rows of each table; a map may have one cell less per side. Defaults
            to 256.
    """

    def __init__(self, dim: int, table_size: int = 256) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"dim: expected an even number, got {dim}")
        self.rows = nn.Embedding(table_size, dim // 2)
        self.columns = nn.Embedding(table_size, dim // 2)
        self.tokens = nn.Embedding(table_size, dim // 2)
        for table in (self.rows, self.columns, self.tokens):
            nn.init.uniform_(table.weight)

    def forward(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Codes of the pose token ``(1, dim)`` and of a map ``(height * width, dim)``.

        Raises:
            ValueError: If the map has more cells per side than the tables.
        """
        most = self.rows.num_embeddings - 1
        if max(height, width) > most:
            raise ValueError(
                f"a feature map of {height}x{width} cells: expected at most {most} per side: "
                "lower the resolution of the pose network's images"
            )
        token = self.tokens.weight[:1].repeat(1, 2)
        # Row and column 0 belong to the token.
        columns = self.columns.weight[1 : width + 1].expand(height, -1, -1)
        rows = self.rows.weight[1 : height + 1, None].expand(-1, width, -1)
        return token, torch.cat([columns, rows], -1).flatten(0, 1)


class _EncoderLayer(nn.Module):
    """Pre-norm self attention with positions on queries and keys, then a feed-forward net."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float, activation: str) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.activation = {"gelu": F.gelu, "relu": F.relu}[activation]

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def forward(self, x: Tensor, positions: Tensor, queries: int | None = None) -> Tensor:
        """New values of the first ``queries`` tokens (all by default) of ``(B, N, dim)``."""
        normed = self.norm1(x)
        placed = normed + positions
        weight, bias = self.in_proj.weight.chunk(3), self.in_proj.bias.chunk(3)
        q = F.linear(placed[:, :queries], weight[0], bias[0])
        k = F.linear(placed, weight[1], bias[1])
        v = F.linear(normed, weight[2], bias[2])
        split = [t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v)]
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(*split, dropout_p=dropout)
        x = x[:, :queries] + self._drop(self.out_proj(mixed.transpose(1, 2).flatten(2)))
        hidden = self._drop(self.activation(self.linear1(self.norm2(x))))
        return x + self._drop(self.linear2(hidden))


class PoseTokenEncoder(nn.Module):
    """Encoder whose first token collects what a pose needs.

    Args:
        dim (int): Channels. Defaults to 256.
        heads (int): Attention heads. Defaults to 4.
        hidden (int): Channels of the feed-forward nets. Defaults to 256.
        layers (int): Defaults to 6.
        dropout (float): Also of the attention weights. Defaults to 0.1.
        activation (str): ``gelu`` or ``relu``. Defaults to ``gelu``.
    """

    def __init__(
        self,
        dim: int = 256,
        heads: int = 4,
        hidden: int = 256,
        layers: int = 6,
        dropout: float = 0.1,
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim: expected a multiple of {heads} heads, got {dim}")
        check_choice("activation", activation, ("gelu", "relu"))
        self.layers = nn.ModuleList(
            _EncoderLayer(dim, heads, hidden, dropout, activation) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """The first token ``(B, dim)`` after all layers.

        Args:
            tokens (Tensor): ``(B, 1 + H W, dim)``, the pose token first.
            positions (Tensor): ``(1 + H W, dim)``.
        """
        for layer in self.layers[:-1]:
            tokens = layer(tokens, positions)
        # Nobody reads the other tokens of the last layer.
        return self.norm(self.layers[-1](tokens, positions, queries=1)[:, 0])
