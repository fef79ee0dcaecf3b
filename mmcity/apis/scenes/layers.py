"""Layers for the viewer, those of checkpoints included."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from mmcity.engine.scene_loading import load_scene
from mmcity.utils.cli import UserError
from mmcity.utils.setup_env import register_all_modules
from mmcity.visualization.viewer import Layer, open_layers

__all__ = ["read_layers"]


def read_layers(
    paths: Sequence[str | os.PathLike], config: str | os.PathLike | None = None
) -> list[Layer]:
    """What the paths hold, in order, for :meth:`~mmcity.visualization.viewer.Viewer.add_layer`.

    Args:
        paths: Checkpoints of scenes (``.pth``), and what
            :func:`~mmcity.visualization.viewer.open_layers` takes.
        config: Of the checkpoints. Defaults to None.

    Raises:
        UserError: If a checkpoint has no config, or a path holds nothing to show.
    """
    layers = []
    for path in paths:
        if Path(path).suffix != ".pth":
            layers += open_layers(path)
            continue
        if config is None:
            raise UserError(f"{path}: expected a config with a checkpoint, got none: give --config")
        register_all_modules()
        with torch.no_grad():
            gaussians = load_scene(path, config).to_gaussians()
        layers.append(Layer(Path(path).stem, "gaussians", gaussians))
    return layers
