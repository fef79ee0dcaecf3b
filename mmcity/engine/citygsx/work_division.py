"""Sharing out image rows among ranks, and which Gaussian goes where."""

import torch
from torch import Tensor

from mmcity.utils.checks import check_choice


def divide_rows(costs: Tensor, world_size: int) -> list[int]:
    """Cuts that give each rank about the same cost.

    Args:
        costs: ``(B, R)`` cost of each row of 16-pixel tiles of B views.
        world_size: Number of ranks M.

    Returns:
        M + 1 cuts of the concatenated rows, from 0 to B R.
    """
    flat = costs.reshape(-1)
    cumulated = flat.cumsum(0)
    total = cumulated[-1]
    shares = torch.arange(1, world_size, device=flat.device) * total / world_size
    cuts = torch.searchsorted(cumulated, shares.to(cumulated), right=True).tolist()
    return [0, *cuts, len(flat)]


def snap_to_images(cuts: list[int], n_rows: int, border: float = 1.0) -> list[int]:
    """Move cuts within ``border`` rows of an image's edge onto the edge.

    Args:
        cuts: From :func:`divide_rows`.
        n_rows: Rows of an image R.
        border: Rows. Defaults to 1.

    Raises:
        ValueError: If a rank would get no more than ``border`` rows.
    """
    out = []
    for cut in cuts:
        rest = cut % n_rows
        if rest + border >= n_rows:
            cut += n_rows - rest
        elif rest <= border:
            cut -= rest
        out.append(cut)
    for first, last in zip(out, out[1:]):
        if not first + border < last:
            raise ValueError(
                f"cuts {out} of rows: expected more than {border} rows for each rank, got no "
                "more: use fewer ranks, more views per batch or larger images"
            )
    return out


class RowDivision:
    """Assignment of the rows of tiles of each view to processes.

    Args:
        world_size: Number of processes M.
        mode: ``rows`` cuts the rows of all views behind one another into M parts of about
            equal cost, ``views`` gives whole views.
        balance: Cost of a row: list ``entries`` when its view was last rendered, or
            ``uniform``.
        decay: Share of a row's former cost that stays when its view is rendered again.
            Defaults to 0.
        border: Cuts within so many rows of a picture's edge move onto the edge. Defaults to 1.

    Attributes:
        tiles: Per process the (view, first row, row after the last) of tiles that it renders.
        costs: Known costs ``(R,)`` of the rows of photographs, by their number.
    """

    def __init__(
        self,
        world_size: int,
        mode: str = "rows",
        balance: str = "entries",
        decay: float = 0.0,
        border: float = 1.0,
    ) -> None:
        check_choice("division", mode, ("rows", "views"))
        check_choice("balance", balance, ("entries", "uniform"))
        if not 0 <= decay < 1:
            raise ValueError(f"decay: expected a share in [0, 1), got {decay}")
        self.world_size, self.mode, self.balance = world_size, mode, balance
        self.decay, self.border = decay, border
        self.tiles: list[list[tuple[int, int, int]]] = []
        self.costs: dict[int, Tensor] = {}
        self._ids: list[int | None] = []
        self._rows: list[int] = []
        self._noted: dict[int, Tensor] = {}

    def divide(self, ids: list[int | None], cameras: list, tile_size: int = 16) -> None:
        """Share out the views of a batch.

        Args:
            ids: Number of the photograph of each view, None for views of no photograph.
            cameras: One per view.
            tile_size: px. Defaults to 16.
        """
        self._ids, self._noted = ids, {}
        self._rows = [-(-camera.one_size()[1] // tile_size) for camera in cameras]
        self._tile_size = tile_size
        starts = [0]
        for rows in self._rows:
            starts.append(starts[-1] + rows)
        cuts = self._cuts(starts)
        self.tiles = []
        for begin, end in zip(cuts, cuts[1:]):
            own = []
            for view, (first, last) in enumerate(zip(starts, starts[1:])):
                low, high = max(begin, first), min(end, last)
                if low < high:
                    own.append((view, low - first, high - first))
            self.tiles.append(own)

    def _cuts(self, starts: list[int]) -> list[int]:
        if self.mode == "views":
            views = len(starts) - 1
            return [starts[views * r // self.world_size] for r in range(self.world_size + 1)]
        costs = []
        for number, rows in zip(self._ids, self._rows):
            known = self.costs.get(number)
            if known is None or len(known) != rows:
                known = torch.ones(rows)
            # Views that were seen at different times weigh the same.
            costs.append(known / known.sum() * rows)
        cuts = divide_rows(torch.cat(costs), self.world_size)
        if len(set(self._rows)) == 1 and self.world_size > 1:
            try:
                return snap_to_images(cuts, self._rows[0], self.border)
            except ValueError:
                pass  # pictures too small to be tidy about; any cuts are right
        return cuts

    def pixels(self, heights: list[int]) -> list[list[tuple[int, int, int]]]:
        """As ``tiles``, in rows of pixels of views with these heights."""
        size = self._tile_size
        return [
            [(view, first * size, min(last * size, heights[view])) for view, first, last in own]
            for own in self.tiles
        ]

    def note(self, view: int, entries: Tensor) -> None:
        """Remember how long the lists of the rows of a view were, 0 for others' rows."""
        if self.balance == "entries":
            self._noted[view] = self._noted.get(view, 0) + entries.detach().float()

    def share(self, total_of) -> None:
        """Make what all processes noted the costs of the next time.

        Args:
            total_of: Sums a tensor over the processes.
        """
        if self.balance != "entries" or self.world_size == 1:
            return
        device = next((noted.device for noted in self._noted.values()), "cpu")
        noted = [
            self._noted.get(view, torch.zeros(rows, device=device))
            for view, rows in enumerate(self._rows)
        ]
        totals = total_of(torch.cat(noted)).cpu().split(self._rows)
        for number, total in zip(self._ids, totals):
            if number is not None and float(total.sum()) > 0:
                # Empty rows cost something, too.
                cost = total + 0.1 * total.mean()
                known = self.costs.get(number, cost)
                if len(known) == len(cost):  # else the picture had another size
                    cost = torch.lerp(cost, known, self.decay)
                self.costs[number] = cost
