"""Anchors spread over processes by their place: who holds what, and how rows move."""

import math

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mmcity.engine.distributed.collectives import (
    all_reduce,
    all_to_all_rows,
    gather_rows,
    world_info,
)

#: Keys that each process shows of its own when the ranges are drawn anew.
SAMPLES = 4096


class ShardGroup:
    """The processes that share a scene; rank r holds the r-th range of a space-filling curve.

    Offers what :class:`mmcity.models.citygsx.shards.OneShard` does.

    Attributes:
        borders: ``(M - 1,)`` int64 keys at which a new range begins.
    """

    def __init__(self) -> None:
        self.rank, self.world_size = world_info()
        self.borders = torch.zeros(0, dtype=torch.long)

    # ---- what growth asks for

    def sum(self, values: Tensor) -> Tensor:
        """Sum of a tensor over the processes."""
        if self.world_size == 1:
            return values
        values = values.clone()
        all_reduce(values)
        return values

    def to_owners(self, owners: Tensor, rows: Tensor) -> Tensor:
        """Send row i of ``(N, ...)`` to process ``owners[i]``; gives the rows that came here."""
        if self.world_size == 1:
            return rows
        order = owners.argsort(stable=True)
        sent = torch.bincount(owners, minlength=self.world_size)
        with torch.no_grad():
            received = all_to_all_rows(sent, [1] * self.world_size, [1] * self.world_size)
            return all_to_all_rows(rows[order], sent.tolist(), received.tolist())

    def gather(self, rows: Tensor) -> Tensor:
        """Rows of all processes, in their order."""
        return gather_rows(rows)

    def first_row(self, count: int) -> int:
        """Index of the first of this process's ``count`` rows among the gathered ones."""
        counts = gather_rows(torch.tensor([count]))
        return int(counts[: self.rank].sum())

    # ---- ranges

    def draw_borders(self, keys: Tensor) -> None:
        """Choose the ranges so that all processes hold about the same number.

        Args:
            keys: ``(N,)`` int64 of the anchors here.
        """
        ordered = keys.sort().values
        count = min(len(ordered), SAMPLES)
        places = torch.arange(count, device=keys.device) * len(ordered) // max(count, 1)
        weight = len(ordered) / max(count, 1)
        shown = gather_rows(ordered[places])
        weights = gather_rows(torch.full((count,), weight, dtype=torch.float64, device=keys.device))
        order = shown.argsort(stable=True)
        before = weights[order].cumsum(0) - weights[order]
        steps = torch.arange(1, self.world_size, device=keys.device, dtype=torch.float64)
        shares = steps * float(weights.sum()) / self.world_size
        rows = torch.searchsorted(before, shares).clamp_max(max(len(shown) - 1, 0))
        self.borders = shown[order][rows] if len(shown) else shown.new_zeros(len(shares))

    def split_evenly(self, keys: Tensor) -> Tensor:
        """Choose the ranges where all processes hold the same rows.

        Args:
            keys: ``(N,)`` int64 of all anchors, the same on all processes.

        Returns:
            ``(about N / M,)`` rows of this process, in the order of the keys.
        """
        order = keys.argsort(stable=True)
        cuts = [len(order) * r // self.world_size for r in range(self.world_size + 1)]
        self.borders = keys[order[cuts[1:-1]]]
        return order[cuts[self.rank] : cuts[self.rank + 1]]

    def owners(self, keys: Tensor) -> Tensor:
        """``(N,)`` process whose range holds a key."""
        return torch.searchsorted(self.borders.to(keys.device), keys, right=True)


@torch.no_grad()
def move_rows(
    module: nn.Module,
    parameters: tuple[str, ...],
    buffers: tuple[str, ...],
    optimizer: Optimizer | None,
    owners: Tensor,
    keys: Tensor,
    group: ShardGroup,
) -> None:
    """Move rows of tables, with the optimiser's moments, to the processes that own them.

    Args:
        module: Owner of the tables, all of N rows.
        parameters: Names of its parameters; their objects stay, gradients are dropped.
        buffers: Names of its buffers.
        optimizer: Whose state follows. Defaults to None.
        owners: ``(N,)`` process of each row.
        keys: ``(N,)`` rows are put in the order of these.
        group: The processes.
    """
    tables: list[tuple[Tensor, callable]] = []
    for name in (*parameters, *buffers):
        table = getattr(module, name)
        shape = table.shape
        tables.append((table.data, _setter(table)))
        state = {} if optimizer is None else optimizer.state.get(table, {})
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == shape and value.ndim:
                tables.append((value, _entry_setter(state, key)))
    # One matrix of 32-bit words holds all; levels and counts are carried as their bits.
    columns = [_as_words(table) for table, _ in tables]
    widths = [column.shape[1] for column in columns]
    rows = torch.cat([_as_words(keys), *columns], 1)
    rows = group.to_owners(owners, rows)
    keys = _packed(rows[:, :2]).view(torch.int64)[:, 0]
    rows = rows[keys.argsort(stable=True), 2:]
    for (table, put), words in zip(tables, rows.split(widths, 1)):
        values = _packed(words).view(table.dtype).reshape(len(rows), *table.shape[1:])
        put(values.clone())


def _as_words(table: Tensor) -> Tensor:
    """Rows as int32 words ``(N, W)``."""
    flat = _packed(table.reshape(len(table), math.prod(table.shape[1:])))
    if flat.element_size() not in (4, 8):
        raise TypeError(f"tables: expected 4 or 8 bytes an element, got {table.dtype}")
    return flat.view(torch.int32)


def _packed(table: Tensor) -> Tensor:
    """A copy whose rows follow one another, also if there is one row or none.

    Such tables count as contiguous whatever their strides are, which views as another type mind.
    """
    return table.clone(memory_format=torch.contiguous_format)


def _setter(table: Tensor):
    def put(value: Tensor) -> None:
        if isinstance(table, nn.Parameter):
            table.grad = None
        table.data = value

    return put


def _entry_setter(state: dict, key: str):
    def put(value: Tensor) -> None:
        state[key] = value

    return put
