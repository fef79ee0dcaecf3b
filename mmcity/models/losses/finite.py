"""Refusal of losses that are not numbers."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["check_finite"]


def check_finite(losses: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinite losses, with one wait for the device.

    Args:
        losses: Scalars, named ``IMAGE: TERM``.

    Raises:
        FloatingPointError: If one is not finite.
    """
    values = torch.stack([value.detach() for value in losses.values()]).tolist()
    for name, value in zip(losses, values):
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{name}: expected a finite loss, got {value}: look at the data of that name, or "
                "lower the learning rate"
            )
