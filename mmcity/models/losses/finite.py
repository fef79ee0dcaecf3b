"""Refusal of losses that are not numbers."""

import math
from collections.abc import Mapping

from torch import Tensor

from mmcity.utils.scalars import read_scalars


def check_finite(losses: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Refuse NaN and infinite losses, with one wait for the device.

    Args:
        losses: Scalars, named ``IMAGE: TERM``.

    Returns:
        Their values.

    Raises:
        FloatingPointError: If one is not finite.
    """
    values = read_scalars(losses)
    for name, value in values.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{name}: expected a finite loss, got {value}: look at the data of that name, or "
                "lower the learning rate"
            )
    return values
