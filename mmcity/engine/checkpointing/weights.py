"""Model weights out of a checkpoint, for inference."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from mmcity.models.layers.frozen import MissingWeightsError
from mmcity.utils.published_weights import how_to_get, published_for, random_weights_allowed

from .loader import find_checkpoint
from .shards import merge_shards
from .verify import check_is_checkpoint, check_matches_model


def load_checkpoint_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """State dict of a checkpoint, on the CPU.

    Which weights are taken is decided here alone: those under ``state_dict``, which are the
    averaged ones where an ``EMAHook`` ran (it swaps them in at saving and leaves the others
    under ``ema_state_dict``); else those under ``model``, as in published files of VGGT; else
    the file is the state dict.

    Args:
        path: File, URL, or folder with one checkpoint, such as that of a scene in shards (see
            :func:`find_checkpoint`).

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is not a checkpoint of weights.
    """
    path = str(find_checkpoint(path) if Path(path).is_dir() else path)
    checkpoint = CheckpointLoader.load_checkpoint(path, map_location="cpu", logger="silent")
    checkpoint = merge_shards(checkpoint, Path(path).parent)
    if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get("model"), Mapping):
        checkpoint = {"state_dict": checkpoint["model"], **checkpoint}
    state_dict = check_is_checkpoint(checkpoint, path)
    return {key: value for key, value in state_dict.items() if isinstance(value, Tensor)}


def require_checkpoint(config: str, model: nn.Module | None = None) -> None:
    """Refuse to use a model that was given no checkpoint where weights of it are published.

    Of other models with parameters a warning tells: a config may fill them in ways of its own.

    Args:
        config: Path or name of its config.
        model: As the config makes it. Defaults to None, before it is made: large ones, of which
            weights are published, are refused at once.

    Raises:
        MissingWeightsError: If weights are published for the config. ``MMCITY_RANDOM_WEIGHTS=1``
            (the tools' ``--random-weights``) lets it pass.
    """
    if random_weights_allowed():
        return
    published = published_for(config)
    if published:
        ways = ["name the checkpoint of a training"]
        for weights in published:
            ways.append(f"take published ones, {weights}: {how_to_get(weights)}")
            if weights.instead:
                ways.append(f"do without: {weights.instead}")
        ways.append("go on with --random-weights to try things out")
        raise MissingWeightsError(
            f"checkpoint: expected trained weights for {config}, got none: {'; or '.join(ways)}"
        )
    if model is not None and any(True for _ in model.parameters()):
        print_log(
            f"{config}: used without a checkpoint: unless the config fills the "
            f"{type(model).__name__}, its weights are random and results mean nothing",
            "current",
            logging.WARNING,
        )


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Fill a model with weights that fit it exactly.

    Args:
        model: Changed in place.
        weights: State dict.
        source: Name of its file, for the message.

    Raises:
        CheckpointError: Naming missing, unexpected and differently shaped entries.
    """
    try:
        model.load_state_dict(weights)
    except (RuntimeError, ValueError):  # torch's, and those of tables that resize themselves
        check_matches_model(model, weights, source)
        raise
