"""The device that commands run on where none is named."""

import torch

__all__ = ["device_at_hand"]


def device_at_hand(device: str | torch.device | None = None) -> str:
    """Name of a device; None is CUDA where there is one, else the CPU."""
    return str(device or ("cuda" if torch.cuda.is_available() else "cpu"))
