"""Output activations of the dense heads and the camera head."""

import torch
from torch import Tensor


def inverse_log(x: Tensor) -> Tensor:
    """``sign(x) * (exp(|x|) - 1)``: linear near zero, exponential far away."""
    return torch.sign(x) * torch.expm1(x.abs())


def activate_points(raw: Tensor, kind: str) -> Tensor:
    """Activate raw coordinates or depths.

    Args:
        raw: Any shape.
        kind: ``'inv_log'`` (points) or ``'exp'`` (depth).
    """
    if kind == "inv_log":
        return inverse_log(raw)
    if kind == "exp":
        return raw.exp()
    raise ValueError(f"activation: expected 'inv_log' or 'exp', got {kind!r}")


def activate_confidence(raw: Tensor) -> Tensor:
    """``1 + exp(raw)``, so that a confidence is above one."""
    return 1 + raw.exp()


def activate_pose(raw: Tensor) -> Tensor:
    """Translation and quaternion as they are, non-negative fields of view; ``(..., 9)``."""
    return torch.cat([raw[..., :7], raw[..., 7:].relu()], dim=-1)
