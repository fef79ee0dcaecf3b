"""Columns of voxels folded into cells of the xy plane, and unfolded to class logits."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ColumnFold(nn.Module):
    """An MLP on all labels of a column, i.e. on all frames and voxels above a plane cell.

    Its first layer is a table with a row for each class at each place of the column, summed
    over the column: a linear layer on one-hot labels without the zeros.

    Args:
        num_classes: Classes K.
        block: Voxels ``(T, X, Y, Z)`` of a column; X and Y are the edges of a cell.
        hidden: Width of the two hidden layers.
        channels: Channels C of the plane.
    """

    def __init__(self, num_classes: int, block: Sequence[int], hidden: int, channels: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.block = tuple(block)
        places = torch.Size(block).numel()
        self.table = nn.Parameter(torch.randn(places * num_classes, hidden) * places**-0.5)
        self.mlp = nn.Sequential(
            nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )

    def forward(self, labels: Tensor) -> Tensor:
        """Labels ``(B, T, X, Y, Z)`` to a plane ``(B, C, x, y)``."""
        batch, _, size_x, size_y, _ = labels.shape
        frames, edge_x, edge_y, height = self.block
        x, y = size_x // edge_x, size_y // edge_y
        cells = labels.long().view(batch, frames, x, edge_x, y, edge_y, height)
        cells = cells.permute(0, 2, 4, 1, 3, 5, 6).reshape(batch * x * y, -1)
        rows = cells + self.num_classes * torch.arange(cells.shape[1], device=labels.device)
        folded = self.mlp(F.embedding_bag(rows, self.table, mode="sum"))
        return folded.view(batch, x, y, -1).permute(0, 3, 1, 2)


class ColumnUnfold(nn.Module):
    """The counterpart of :class:`ColumnFold`: logits of a column from the features of its cell.

    Args:
        channels: Features Q of a cell.
        num_classes: Classes K.
        block: Voxels ``(T, X, Y, Z)`` of a column.
    """

    def __init__(self, channels: int, num_classes: int, block: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(*block, num_classes, channels) * channels**-0.5)
        self.bias = nn.Parameter(torch.zeros(*block, num_classes))

    def forward(self, plane: Tensor, frames: slice = slice(None)) -> Tensor:
        """Features ``(B, Q, x, y)`` to logits ``(B, T, X, Y, Z, K)`` of the frames asked for."""
        weight, bias = self.weight[frames], self.bias[frames]
        logits = torch.einsum("bqxy,tijzkq->btxiyjzk", plane, weight)
        logits = logits + bias[:, None, :, None]  # (T, 1, X, 1, Y, Z, K)
        return logits.flatten(4, 5).flatten(2, 3)
