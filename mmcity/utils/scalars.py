"""Numbers on their way between host and device."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def constant(numbers: Sequence[float], like: Tensor) -> Tensor:
    """Numbers as a tensor of another's dtype and device, for which the host need not wait."""
    values = torch.tensor(numbers, dtype=like.dtype)
    return (
        values.pin_memory().to(like.device, non_blocking=True)
        if like.is_cuda
        else values.to(like.device)
    )


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
