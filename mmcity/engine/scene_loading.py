"""Scene models from a checkpoint or a PLY file, and the views they were made from."""

import os
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn
from torch.utils.data import Dataset

from mmcity.models.layers import frame_in_state
from mmcity.registry import DATASETS, MODELS
from mmcity.structures import SceneFrame, read_gaussians_ply
from mmcity.utils.cli import UserError
from mmcity.utils.setup_env import register_all_modules

from .checkpointing import load_checkpoint_weights, load_weights
from .launch import as_config


def load_scene(
    weights: str | os.PathLike,
    config: str | os.PathLike | Any | None = None,
    antialiased: bool = False,
) -> nn.Module:
    """A scene model with its scene, on the CPU in eval mode.

    Args:
        weights: Checkpoint (file, URL, or folder of one in shards), or a ``.ply`` file in the
            3DGS layout.
        config: Config of the model (see :func:`~mmcity.engine.launch.as_config`); needed for a
            checkpoint.
        antialiased: For a PLY: rendering mode it was trained with. Defaults to False.

    Raises:
        FileNotFoundError: If a file is missing.
        UserError: If a checkpoint comes without its config.
        ValueError: If weights do not fit.
    """
    register_all_modules()
    if Path(weights).suffix.lower() == ".ply":
        return _from_ply(weights, config, antialiased).eval()
    if config is None:
        raise UserError(f"{weights}: expected a config with a checkpoint, got none: give --config")
    state_dict = load_checkpoint_weights(weights)
    model = MODELS.build(as_config(config).model)
    load_weights(model, state_dict, str(weights))
    return model.eval()


def frame_of_weights(weights: str | os.PathLike) -> SceneFrame:
    """Frame of a scene or pose network in a checkpoint or ``.ply`` file, without its model."""
    if Path(weights).suffix.lower() == ".ply":
        return read_gaussians_ply(weights).frame or SceneFrame()
    return frame_in_state(load_checkpoint_weights(weights)) or SceneFrame()


def build_views(cfg: Config, split: str, model: nn.Module) -> Dataset:
    """Views of a scene with their photographs, without depth priors and neighbours.

    Args:
        cfg: Config of the scene.
        split: ``train``, views of the training loader, or ``test``, those of the test loader.
        model: Its model, in whose frame the views are given.
    """
    dataset = cfg[f"{split}_dataloader"].dataset.copy()
    if "use_neighbours" in dataset or dataset.type == "CityGSXDataset":
        dataset.update(use_neighbours=False, depth_dir=None, mask_dir=None)
    views = DATASETS.build(dataset)
    views.express_in(model.placement.frame)
    return views


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
        cfg = dict(as_config(config).model)
        # A file says nothing of how far the training had come: use all it holds.
        cfg.update(sh_degree_interval=0, exposure=None)
    model = MODELS.build(cfg)
    model.splats.assign_gaussians(gaussians)
    model.placement.frame = gaussians.frame or SceneFrame()
    return model
