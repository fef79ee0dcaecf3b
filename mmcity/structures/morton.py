"""Orders of points along a Z-shaped curve, in which near rows lie near in space."""

import torch
from torch import Tensor

_BITS = 10
#: An order of rows is as good as that along the curve if blocks are at most so much larger.
_AS_GOOD = 1.1


def interleave_bits(values: Tensor) -> Tensor:
    """21-bit numbers with two zero bits between any two of their bits."""
    masks = (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    )
    values = values & 0x1FFFFF
    for shift, mask in masks:
        values = (values | (values << shift)) & mask
    return values


def morton_order(points: Tensor, block: int = 256) -> Tensor:
    """Rows of points along the curve, x lowest.

    Cells are 1/1024 of the points' box along each axis; where more than ``block`` points share
    one, they are ordered again in a box of their own, so that far strays cost no order.

    Args:
        points: ``(N, 3)`` finite.
        block: Rows that are kept together. Defaults to 256.

    Returns:
        Tensor: ``(N,)`` int64.
    """
    order = torch.arange(len(points))
    pending = [(0, len(points))] if len(points) else []
    while pending:
        start, end = pending.pop()
        rows = order[start:end]
        part = points[rows].double()
        low, high = part.amin(0), part.amax(0)
        if not bool((high > low).any()):
            continue
        extent = torch.where(high > low, high - low, 1.0)
        cells = ((part - low) / extent * (1 << _BITS)).long().clamp_max((1 << _BITS) - 1)
        x, y, z = (interleave_bits(axis) for axis in cells.unbind(1))
        keys, positions = (x | y << 1 | z << 2).sort(stable=True)
        order[start:end] = rows[positions]
        counts = keys.unique_consecutive(return_counts=True)[1]
        ends = counts.cumsum(0) + start
        crowded = counts > block
        pending += zip((ends - counts)[crowded].tolist(), ends[crowded].tolist())
    return order


def blocks_along_curve(points: Tensor, block: int = 256) -> Tensor:
    """Rows of points so that blocks of them are small: along the curve, or as they are.

    What a file has in such an order keeps it, though rounding has moved it a little; so a file
    that is read and written again has the same blocks.

    Args:
        points: ``(N, 3)`` finite.
        block: Rows of a block. Defaults to 256.

    Returns:
        Tensor: ``(N,)`` int64.
    """

    def extent(points: Tensor) -> float:
        return sum(float((part.amax(0) - part.amin(0)).sum()) for part in points.split(block))

    order = morton_order(points, block)
    given = torch.arange(len(points))
    return given if extent(points) <= _AS_GOOD * extent(points[order]) else order
