"""Access of growth to the anchors of other processes."""

import torch
from torch import Tensor

from mmcity.structures.morton import interleave_bits


class OneShard:
    """All anchors are here. Processes that share a scene give the same methods a meaning."""

    world_size = 1

    def sum(self, values: Tensor) -> Tensor:
        """Sum of a tensor over the processes."""
        return values

    def to_owners(self, owners: Tensor, rows: Tensor) -> Tensor:
        """Send row i of ``(N, ...)`` to process ``owners[i]``; gives the rows that came here."""
        return rows

    def gather(self, rows: Tensor) -> Tensor:
        """Rows of all processes, in their order."""
        return rows

    def first_row(self, count: int) -> int:
        """Index of the first of this process's ``count`` rows among the gathered ones."""
        return 0


def voxel_owner(keys: Tensor, level: int, world_size: int) -> Tensor:
    """Process ``(N,)`` that decides about a voxel: a hash of level and key."""
    mixed = keys + (level + 1) * 0x9E3779B1
    # Products wrap around, as they should in a hash.
    mixed = (mixed ^ (mixed >> 31)) * 0x7FB5D329728EA185
    mixed = (mixed ^ (mixed >> 27)) * -0x7E25210B43D22BB3
    return ((mixed ^ (mixed >> 33)) & 0x7FFFFFFF) % world_size


def morton_keys(positions: Tensor, origin: Tensor, cell: float) -> Tensor:
    """``(N,)`` int64 positions along a Z-shaped curve, so that near keys mean near places.

    Args:
        positions: ``(N, 3)`` world units.
        origin: ``(3,)``.
        cell: Edge of the cells, world units; farther than 2^20 of them all is the same.
    """
    cells = torch.round((positions - origin) / cell).clamp(-(1 << 20), (1 << 20) - 1).long()
    x, y, z = (cells + (1 << 20)).unbind(1)
    return interleave_bits(x) | (interleave_bits(y) << 1) | (interleave_bits(z) << 2)
