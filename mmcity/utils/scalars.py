"""Numbers on their way from the device to the host."""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["read_scalars"]


def read_scalars(values: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Python numbers of scalars, with one wait for each device that holds some.

    Args:
        values: Tensors of one element of any device and dtype, or numbers, which stay.
    """
    held: dict[torch.device, dict[str, Tensor]] = {}
    for name, value in values.items():
        if isinstance(value, Tensor):
            held.setdefault(value.device, {})[name] = value.detach().reshape(())
    numbers = dict(values)
    for tensors in held.values():
        rows = torch.stack([value.double() for value in tensors.values()]).tolist()
        for (name, value), row in zip(tensors.items(), rows):
            numbers[name] = row if value.is_floating_point() else int(row)
    return numbers
