"""Model weights out of a checkpoint file, for inference."""

import os

from mmengine.runner import CheckpointLoader
from torch import Tensor

from .verify import check_is_checkpoint

__all__ = ["load_checkpoint_weights"]


def load_checkpoint_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """State dict of a checkpoint, on the CPU.

    Where an ``EMAHook`` ran, these are the averaged weights: it swaps them in at saving.

    Args:
        path: File or URL.

    Raises:
        CheckpointError: If the file is not a checkpoint of weights.
    """
    checkpoint = CheckpointLoader.load_checkpoint(str(path), map_location="cpu")
    state_dict = check_is_checkpoint(checkpoint, str(path))
    return {key: value for key, value in state_dict.items() if isinstance(value, Tensor)}
