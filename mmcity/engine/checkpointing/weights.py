"""Model weights out of a checkpoint file, for inference."""

import os
from pathlib import Path

from mmengine.runner import CheckpointLoader
from torch import Tensor

from .shards import merge_shards
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
    checkpoint = merge_shards(checkpoint, Path(str(path)).parent)
    state_dict = check_is_checkpoint(checkpoint, str(path))
    return {key: value for key, value in state_dict.items() if isinstance(value, Tensor)}
