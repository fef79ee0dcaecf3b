"""Scene models from a checkpoint or a PLY file."""

import os
from pathlib import Path
from typing import Any

from torch import nn

from mmcity.registry import MODELS
from mmcity.structures import read_gaussians_ply

from .checkpointing import check_is_checkpoint, check_matches_model, load_from_local, merge_shards
from .launch import load_config

__all__ = ["load_scene"]


def load_scene(
    weights: str | os.PathLike,
    config: str | os.PathLike | Any | None = None,
    antialiased: bool = False,
) -> nn.Module:
    """A scene model with its scene, on the CPU in eval mode.

    Args:
        weights: Checkpoint (read with ``weights_only=True``), or a ``.ply`` file in the 3DGS
            layout.
        config: Config of the model, a path or a loaded config; needed for a checkpoint.
        antialiased: For a PLY: rendering mode it was trained with. Defaults to False.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If weights do not fit.
    """
    if not Path(weights).is_file():
        raise FileNotFoundError(f"weights not found: {weights}")
    if Path(weights).suffix.lower() == ".ply":
        return _from_ply(weights, config, antialiased).eval()
    if config is None:
        raise ValueError(f"{weights} is a checkpoint: it needs its config too")
    checkpoint = load_from_local(weights, map_location="cpu")
    checkpoint = merge_shards(checkpoint, Path(weights).parent)
    state_dict = check_is_checkpoint(checkpoint, str(weights))
    model = MODELS.build(_model_config(config))
    check_matches_model(model, state_dict, str(weights))
    model.load_state_dict(state_dict)
    return model.eval()


def _from_ply(path, config, antialiased: bool) -> nn.Module:
    gaussians = read_gaussians_ply(path)
    if config is None:
        cfg = dict(
            type="GaussianSplatting",
            sh_degree=gaussians.sh_degree or 0,
            sh_degree_interval=0,
            renderer=dict(type="SplatRenderer", antialiased=antialiased),
        )
    else:
        cfg = _model_config(config)
        # A file says nothing of how far the training had come: use all it holds.
        cfg.update(sh_degree_interval=0, exposure=None)
    model = MODELS.build(cfg)
    model.splats.assign_gaussians(gaussians)
    return model


def _model_config(config) -> dict:
    if isinstance(config, (str, os.PathLike)):
        config = load_config(config)
    return dict(config.get("model", config))
