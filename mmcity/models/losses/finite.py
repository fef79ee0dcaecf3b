"""Refusal of losses that are not numbers."""

import math
from collections.abc import Mapping

from torch import Tensor

from mmcity.utils.scalars import read_scalars

__all__ = ["check_finite"]


def check_finite(losses: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinite losses, with one wait for the device.

    Args:
        losses: Scalars, named ``IMAGE: TERM``.

    Raises:
        FloatingPointError: If one is not finite.
    """
    for name, value in read_scalars(losses).items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{name}: expected a finite loss, got {value}: look at the data of that name, or "
                "lower the learning rate"
            )
