"""Means over the items of a data set, some of which may have no value."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.logging import print_log

_SHOWN = 5


def item_means(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, float]:
    """Mean of each number over the items that have it.

    An item whose mask is empty, for example, has no error: NaN or nothing stands for it. Infinite
    numbers, such as the PSNR of equal pictures, are left out where others are finite, with a
    warning that counts them.

    Args:
        rows: Numbers by name, one mapping per item.
        names: Numbers to average; those that no item has are left out.

    Returns:
        Means by name.
    """
    means = {}
    for name in names:
        values = [float(row[name]) for row in rows if row.get(name) is not None]
        values = [value for value in values if not math.isnan(value)]
        finite = [value for value in values if math.isfinite(value)]
        if finite and len(finite) < len(values):
            lost = len(values) - len(finite)
            text = f"{name}: {lost} of {len(values)} items are infinite, left out of the mean"
            print_log(text, "current", 30)
            values = finite
        if values:
            means[name] = sum(values) / len(values)
    return means


def tell_left_out(reasons: Mapping[str, str], total: int, what: str) -> None:
    """Warn of items that a metric leaves out.

    Args:
        reasons: Why, by name of the item.
        total: Number of all items.
        what: The items, in the plural.
    """
    if reasons:
        shown = "; ".join(f"{name}: {why}" for name, why in list(reasons.items())[:_SHOWN])
        more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        print_log(
            f"{len(reasons)} of {total} {what} are left out of the means: {shown}{more}",
            "current",
            30,
        )
