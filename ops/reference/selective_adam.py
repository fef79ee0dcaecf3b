"""Torch oracle: Adam on the visible rows."""

from torch import Tensor


def selective_adam(
    param: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    visible: Tensor,
    lr: float,
    b1: float,
    b2: float,
    eps: float,
    step: int,
) -> None:
    """See :func:`mmcity_ops.selective_adam`."""
    g = grad[visible]
    m[visible] = b1 * m[visible] + (1 - b1) * g
    v[visible] = b2 * v[visible] + (1 - b2) * g * g
    corrected_m = m[visible] / (1 - b1**step)
    corrected_v = v[visible] / (1 - b2**step)
    param[visible] = param[visible] - lr * corrected_m / (corrected_v.sqrt() + eps)
