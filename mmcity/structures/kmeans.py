"""Few values that stand for many: exact for numbers, in two levels for vectors."""

import numpy as np
import torch
from torch import Tensor

_MOST_BINS = 1024
_COARSE_ROWS = 100_000
_BLOCK_ROWS = 8192
#: So few centres are sought among all rows at once.
_ONE_LEVEL = 1024
#: Ends of parts that are looked at together.
_STRIP = 256


def codebook(values: np.ndarray, size: int = 256) -> np.ndarray:
    """Centres of numbers with the least squares to the nearest, by dynamic programming.

    Numbers are counted in bins whose widths blend equal numbers and equal ranges, and a bin
    weighs the square root of its count, so that rare values are kept too.

    Args:
        values: Any shape, finite.
        size: Centres. Defaults to 256.

    Returns:
        np.ndarray: ``(size,)`` float32 in rising order, the last one repeated where there are
        fewer values than centres.
    """
    values = np.sort(values, axis=None).astype(np.float64)
    extent = values[-1] - values[0]
    different = np.unique(values)
    if len(different) <= size:
        return np.pad(different, (0, size - len(different)), "edge").astype(np.float32)
    bins = min(_MOST_BINS, len(values))
    quartiles = np.quantile(values, (0.25, 0.75))
    blend = np.clip(1 - (quartiles[1] - quartiles[0]) / extent, 0.5, 0.999)
    rank = np.arange(len(values)) / len(values)
    place = blend * rank + (1 - blend) * (values - values[0]) / extent
    number = (place * bins).astype(np.int64).clip(0, bins - 1)
    counts = np.bincount(number, minlength=bins)
    filled = counts > 0
    centres = np.bincount(number, values, bins)[filled] / counts[filled]
    found = _best_centres(centres, np.sqrt(counts[filled]), min(size, int(filled.sum())))
    return np.pad(found, (0, size - len(found)), "edge").astype(np.float32)


def _best_centres(values: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Means of the parts of sorted values whose weighted squares about their means are least."""
    bins = len(values)
    values, middle = values - values.mean(), values.mean()
    total, first, second = (
        np.concatenate([[0.0], np.cumsum(weights * values**power)]) for power in (0, 1, 2)
    )
    # cost[j, i]: of bins i..j as one part
    sums, moments, squares = (s[1:, None] - s[None, :-1] for s in (total, first, second))
    later = ~np.tri(bins, dtype=bool)
    cost = (squares - moments**2 / np.where(later, 1, sums)).astype(np.float32)
    cost[later] = np.inf
    best = cost[:, 0].copy()  # best[j]: least cost of bins 0..j
    begins = np.zeros((count, bins), np.int64)
    for part in range(1, count):
        # The part before ends at i - 1, of which at least ``part`` bins lie below.
        before, best = best, np.full(bins, np.inf, np.float32)
        for start in range(part, bins, _STRIP):
            ends = slice(start, min(start + _STRIP, bins))
            sums_to = cost[ends, part : ends.stop] + before[part - 1 : ends.stop - 1]
            least = sums_to.argmin(1)
            begins[part, ends] = least + part
            best[ends] = sums_to[np.arange(len(least)), least]
    centres = np.empty(count)
    end = bins - 1
    for part in range(count - 1, -1, -1):
        begin = begins[part, end]
        centres[part] = (first[end + 1] - first[begin]) / (total[end + 1] - total[begin])
        end = begin - 1
    return centres + middle


def nearest(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Index of the nearest of rising centres for each value, the first of equal ones."""
    found = np.searchsorted((centres[1:] + centres[:-1]) / 2, values)
    return np.searchsorted(centres, centres)[found]


def palette(
    rows: Tensor, size: int, weights: Tensor | None = None, iterations: int = 5
) -> tuple[Tensor, Tensor]:
    """Vectors that stand for many, by k-means in two levels; the same for the same rows.

    Many centres are sought within coarse clusters, each of which gets a share by its rows.

    Args:
        rows: ``(N, D)`` float32.
        size: At most so many centres, of at most N.
        weights: ``(N,)`` how much a row is seen: one of more weight is sooner a centre to begin
            with, and then has mostly itself alone. Defaults to None: all alike.
        iterations: Of both levels. Defaults to 5.

    Returns:
        tuple: Centres ``(P, D)``, and the index ``(N,)`` int64 of each row's centre.
    """
    generator = torch.Generator().manual_seed(0)
    # Equal rows have equal keys, and no others but by chance.
    keys = rows.double() @ torch.rand(rows.shape[1], generator=generator, dtype=torch.float64)
    different, labels = keys.unique(return_inverse=True)
    if len(different) <= size:
        centres = rows.new_empty(len(different), rows.shape[1])
        centres[labels] = rows
        if bool((centres[labels] == rows).all()):
            return centres, labels
    # The largest of these are a draw by weight (Efraimidis and Spirakis, 2006).
    draws = torch.rand(len(rows), generator=generator, dtype=torch.float64).log()
    sample = draws.argsort()[:_COARSE_ROWS]
    if weights is not None:
        draws = draws / weights.double().clamp_min(1e-30)
    coarse_size = 1 if size <= _ONE_LEVEL else 2 ** -(-(size - 1).bit_length() // 2)
    middles = _lloyd(rows[sample], torch.arange(len(sample)), coarse_size, iterations)
    coarse = _nearest_rows(rows, middles)
    counts = torch.bincount(coarse, minlength=coarse_size)
    members = coarse.argsort(stable=True).split(counts.tolist())
    groups = [group for group in members if len(group)]
    # One centre for each, the others by the numbers of further rows.
    further = torch.tensor([len(group) - 1 for group in groups]).cumsum(0)
    ends = further * (size - len(groups)) // max(len(rows) - len(groups), 1)
    shares = (ends.diff(prepend=ends.new_zeros(1)) + 1).tolist()
    found = []
    labels = torch.empty(len(rows), dtype=torch.long)
    first = 0
    for group, share in zip(groups, shares):
        part = rows[group]
        found.append(_lloyd(part, draws[group], share, iterations))
        labels[group] = _nearest_rows(part, found[-1]) + first
        first += share
    return torch.cat(found), labels


def _lloyd(rows: Tensor, draws: Tensor, count: int, iterations: int) -> Tensor:
    """Centres of rows, from those with the largest draws on; one that no row is near to stays."""
    centres = rows[draws.topk(count).indices]
    if count == len(rows):
        return centres
    for _ in range(iterations):
        labels = _nearest_rows(rows, centres)
        sums = torch.zeros_like(centres).index_add_(0, labels, rows)
        counts = torch.bincount(labels, minlength=count)[:, None]
        centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
    return centres


def _nearest_rows(rows: Tensor, centres: Tensor) -> Tensor:
    """``(N,)`` index of the nearest centre."""
    half = (centres**2).sum(1) / 2
    return torch.cat([(half - part @ centres.T).argmin(1) for part in rows.split(_BLOCK_ROWS)])
