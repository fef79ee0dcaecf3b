"""Means over chosen entries."""

from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask is True; 0 if there are none.

    Equals ``values[mask].mean()`` without a wait of the host for the number of values.

    Args:
        values: Finite or not where the mask is False.
        mask: Bool, of the leading dimensions of ``values``.
    """
    extra = values.shape[mask.ndim :]
    chosen = values.masked_fill(~mask.view(*mask.shape, *(1 for _ in extra)), 0)
    return chosen.sum() / (mask.sum() * extra.numel()).clamp_min(1)
