"""Batches as they come from a loader."""

from collections.abc import Sequence

import torch
from torch import Tensor


def stacked(values: Tensor | Sequence[Tensor]) -> Tensor:
    """Tensors of the samples of a batch as one, which stays as it is."""
    return values if isinstance(values, Tensor) else torch.stack(list(values))
