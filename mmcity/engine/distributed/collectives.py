"""Exchanges between processes, through which gradients flow back.

What is sent goes by the device of the process group, whatever device it lies on.
"""

import sys
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import get_comm_device
from torch import Tensor

from .watch import watched


def world_info() -> tuple[int, int]:
    """Rank of this process and number of processes."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def all_reduce(values: Tensor, op: dist.ReduceOp = dist.ReduceOp.SUM) -> None:
    """Sum, or reduce otherwise, a tensor over the ranks, in place."""
    if world_info()[1] > 1:
        moved = values.to(get_comm_device()).contiguous()
        with watched(_called("all_reduce")):
            dist.all_reduce(moved, op)
        if moved is not values:
            values.copy_(moved)


def broadcast(values: Tensor) -> None:
    """Give a tensor on every rank the values that it has on rank 0, in place."""
    if world_info()[1] > 1:
        moved = values.to(get_comm_device()).contiguous()
        with watched(_called("broadcast")):
            dist.broadcast(moved, 0)
        if moved is not values:
            values.copy_(moved)


def _called(collective: str) -> str:
    """Name of a collective with the function outside of this module that asked for it."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        if frame.f_code.co_name == "backward":
            return f"{collective} of the backward pass"
        frame = frame.f_back
    return f"{collective} of {frame.f_code.co_name}"


def gather_objects(value: Any) -> list:
    """Picklable values of all ranks, in their order, on every rank."""
    values = [value] * world_info()[1]
    if len(values) > 1:
        with watched(_called("all_gather_object")):
            dist.all_gather_object(values, value)
    return values


class _AllToAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor, sent: list[int], received: list[int]) -> Tensor:
        ctx.sizes = sent, received
        return _all_to_all(rows, sent, received)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        sent, received = ctx.sizes
        return _all_to_all(gradient, received, sent), None, None


def _all_to_all(rows: Tensor, sent: list[int], received: list[int]) -> Tensor:
    moved = rows.to(get_comm_device()).contiguous()
    out = moved.new_empty(sum(received), *rows.shape[1:])
    with watched(_called("all_to_all")):
        dist.all_to_all_single(out, moved, received, sent)
    return out.to(rows.device)


def all_to_all_rows(rows: Tensor, sent: Sequence[int], received: Sequence[int]) -> Tensor:
    """Send the first ``sent[0]`` rows to rank 0, the next ``sent[1]`` to rank 1, and so on.

    Args:
        rows: ``(sum(sent), ...)``, in the order of the ranks they go to.
        sent: Rows for each rank.
        received: Rows that each rank sends here.

    Returns:
        ``(sum(received), ...)`` in the order of the ranks they come from. Differentiable: the
        gradient takes the way back, so every rank has to take part in the backward pass.
    """
    if world_info()[1] == 1:
        return rows
    return _AllToAll.apply(rows, list(sent), list(received))


def gather_rows(rows: Tensor) -> Tensor:
    """Rows of all ranks behind one another, on every rank; without gradient."""
    _, world = world_info()
    if world == 1:
        return rows
    device = get_comm_device()
    own = torch.tensor([len(rows)], device=device)
    counts = [torch.zeros_like(own) for _ in range(world)]
    name = _called("all_gather")
    with watched(name):
        dist.all_gather(counts, own)
    counts = torch.cat(counts).tolist()
    size = max(counts)
    if not size:
        return rows
    padded = torch.zeros(size, *rows.shape[1:], dtype=rows.dtype, device=device)
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(world)]
    with watched(name):
        dist.all_gather(parts, padded)
    whole = torch.cat([part[:count] for part, count in zip(parts, counts)])
    return whole.to(rows.device)


Rows = tuple[int, int, int]  # view, first row, row after the last


def overlap(a: Rows, b: Rows) -> tuple[int, int]:
    """First row and row after the last that two strips share; empty unless of one view."""
    if a[0] != b[0]:
        return 0, 0
    return max(a[1], b[1]), min(a[2], b[2])


def exchange_strips(
    strips: Sequence[Tensor],
    owned: Sequence[Sequence[Rows]],
    wanted: Sequence[Sequence[Rows]],
    like: Sequence[Tensor],
) -> tuple[list[Tensor], Tensor]:
    """Give each rank the rows of pictures it wants, from the ranks that have them.

    Args:
        strips: ``(h, W, C)`` of this rank, in the order of ``owned[rank]``.
        owned: Strips of each rank; together they hold every row exactly once.
        wanted: Strips that each rank wants.
        like: ``(0, W, C)`` per view: width, channels and type.

    Returns:
        ``(h, W, C)`` for each of ``wanted[rank]``, and a scalar 0 that a loss has to contain,
        also on a rank that wants nothing. Differentiable, see :func:`all_to_all_rows`.
    """
    rank, world = world_info()
    channels = like[0].shape[2]

    def pieces(source: int, target: int) -> list[tuple[int, int, int, int]]:
        """Slices that ``source`` sends to ``target``, in an order that both know."""
        found = []
        for w, want in enumerate(wanted[target]):
            for s, strip in enumerate(owned[source]):
                first, last = overlap(want, strip)
                if first < last:
                    found.append((w, s, first, last))
        return found

    outgoing, sent = [like[0].new_zeros(0, channels)], []
    for target in range(world):
        size = 0
        for _, s, first, last in pieces(rank, target):
            begin = owned[rank][s][1]
            flat = strips[s][first - begin : last - begin].reshape(-1, channels)
            outgoing.append(flat)
            size += len(flat)
        sent.append(size)
    incoming, received = [], []
    for source in range(world):
        parts = [(w, first, last) for w, _, first, last in pieces(source, rank)]
        sizes = [(last - first) * like[wanted[rank][w][0]].shape[1] for w, first, last in parts]
        incoming += [(w, first, size) for (w, first, _), size in zip(parts, sizes)]
        received.append(sum(sizes))
    buffer = torch.cat(outgoing)
    if torch.is_grad_enabled() and not buffer.requires_grad:
        buffer.requires_grad_()  # a rank that sends nothing goes the way back, too
    buffer = all_to_all_rows(buffer, sent, received)
    found: list[list[tuple[int, Tensor]]] = [[] for _ in wanted[rank]]
    for (w, first, _), part in zip(incoming, buffer.split([size for *_, size in incoming])):
        width = like[wanted[rank][w][0]].shape[1]
        found[w].append((first, part.reshape(-1, width, channels)))
    out = []
    for w, (view, first, last) in enumerate(wanted[rank]):
        rows = [part for _, part in sorted(found[w], key=lambda item: item[0])]
        rows = torch.cat(rows) if rows else buffer[:0].reshape(0, like[view].shape[1], channels)
        if len(rows) != last - first:
            raise ValueError(
                f"rows {first} to {last} of view {view}: expected all, got {len(rows)}"
            )
        out.append(rows)
    return out, buffer[:0].sum()
