"""Pictures of a localisation run: trajectories from above and the distribution of errors."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmcity.utils.fileio import atomic_path

_DPI = 110
_SMALLEST = 1e-6
_COLORS = ("tab:orange", "tab:blue", "tab:green", "tab:red")


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure, path: str | os.PathLike) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, bbox_inches="tight")
    _pyplot().close(figure)


def _ground_axes(points: np.ndarray) -> np.ndarray:
    """Two orthonormal axes ``(2, 3)`` in which centres spread most."""
    centered = points - points.mean(0)
    return np.linalg.svd(centered, full_matrices=False)[2][:2]


def plot_trajectories(
    path: str | os.PathLike,
    mapped: np.ndarray,
    truth: np.ndarray,
    estimates: Mapping[str, np.ndarray],
    up: Sequence[float] | None = None,
    unit: str = "m",
) -> None:
    """Map cameras, true and estimated query positions from above.

    Args:
        path: Picture file.
        mapped (np.ndarray): ``(M, 3)`` centres of the mapped cameras.
        truth (np.ndarray): ``(N, 3)`` true centres of the queries.
        estimates (Mapping): ``(N, 3)`` by label; rows of NaN were not localised. A line joins
            each estimate with its truth.
        up (Sequence, optional): Direction to look down from. Defaults to the direction in
            which the mapped cameras spread least.
        unit (str): Of the axes. Defaults to ``m``.
    """
    pyplot = _pyplot()
    if up is None:
        axes = _ground_axes(np.concatenate([mapped, truth]))
    else:
        up = np.asarray(up, float) / np.linalg.norm(up)
        first = np.eye(3)[np.abs(up).argmin()]
        first = first - up * (first @ up)
        first /= np.linalg.norm(first)
        axes = np.stack([first, np.cross(up, first)])
    flat = {name: (points - mapped.mean(0)) @ axes.T for name, points in estimates.items()}
    known, goal = ((points - mapped.mean(0)) @ axes.T for points in (mapped, truth))
    figure, axis = pyplot.subplots(figsize=(7, 7))
    axis.plot(*known.T, ".", color="0.7", markersize=5, label=f"mapped ({len(known)})")
    axis.plot(*goal.T, "k+", markersize=8, label=f"queries, truth ({len(goal)})")
    for color, (name, points) in zip(
        ("tab:orange", "tab:blue", "tab:green", "tab:red"), flat.items()
    ):
        found = np.isfinite(points).all(1)
        axis.plot(*points[found].T, "o", color=color, markersize=4, label=f"{name} ({found.sum()})")
        for start, end in zip(goal[found], points[found]):
            axis.plot(*np.stack([start, end]).T, "-", color=color, linewidth=0.8, alpha=0.6)
    # A wild estimate must not shrink all others to a dot.
    both = np.concatenate([known, goal])
    low, high = both.min(0), both.max(0)
    margin = 0.25 * max((high - low).max(), 1e-6)
    axis.set_xlim(low[0] - margin, high[0] + margin)
    axis.set_ylim(low[1] - margin, high[1] + margin)
    axis.set_aspect("equal")
    axis.set_xlabel(unit)
    axis.set_ylabel(unit)
    axis.legend(loc="best", fontsize=8)
    _save(figure, path)


def plot_error_cdf(
    path: str | os.PathLike, errors: Mapping[str, tuple[np.ndarray, np.ndarray]], unit: str = "m"
) -> None:
    """Share of queries below an error, for position and rotation.

    Args:
        path: Picture file.
        errors (Mapping): By label: position errors ``(N,)`` and rotation errors ``(N,)`` in
            degrees; infinite where not localised.
        unit (str): Of the positions. Defaults to ``m``.
    """
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True)
    found = [False, False]
    for name, pair in errors.items():
        for column, (axis, values) in enumerate(zip(axes, pair)):
            values = np.sort(np.asarray(values, float))
            shares = np.arange(1, len(values) + 1) / len(values)
            finite = np.isfinite(values)
            values = values.clip(min=_SMALLEST)  # a logarithmic axis knows no 0
            axis.step(values[finite], shares[finite], where="post", label=name)
            found[column] |= bool(finite.any())
    for axis, label, some in zip(axes, (f"position error [{unit}]", "rotation error [deg]"), found):
        if some:  # a logarithmic axis needs numbers
            axis.set_xscale("log")
        else:
            axis.text(0.5, 0.45, "no query localised", ha="center", transform=axis.transAxes)
        axis.set_xlabel(label)
        axis.axhline(0.5, color="0.8", linewidth=0.8)
        axis.set_ylim(0, 1.02)
        axis.grid(True, which="both", linewidth=0.3)
    axes[0].set_ylabel("share of queries")
    axes[0].legend(fontsize=8)
    _save(figure, path)


def overlay_halves(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Left half of one picture beside the right half of another of the same size, (H, W, 3)."""
    if first.shape != second.shape:
        raise ValueError(f"expected pictures of one size, got {first.shape} and {second.shape}")
    out = first.copy()
    middle = first.shape[1] // 2
    out[:, middle:] = second[:, middle:]
    return out
