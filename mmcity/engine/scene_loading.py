"""Scene models from a checkpoint or a file of Gaussians, and the views they were made from."""

import os
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from torch import nn
from torch.utils.data import Dataset

from mmcity.models.layers import frame_in_state
from mmcity.registry import DATASETS, MODELS
from mmcity.structures import GAUSSIAN_SUFFIXES, SceneFrame, SplatInfo, read_gaussian_file
from mmcity.utils.cli import UserError
from mmcity.utils.setup_env import register_all_modules

from .checkpointing import load_checkpoint_weights, load_weights
from .launch import as_config

#: Surfels are rendered as Gaussians whose third scale is 0.
_AS_SURFELS = ("2dgs", "default")


def load_scene(
    weights: str | os.PathLike,
    config: str | os.PathLike | Any | None = None,
    antialiased: bool | None = None,
) -> nn.Module:
    """A scene model with its scene, on the CPU in eval mode.

    Args:
        weights: Checkpoint (file, URL, or folder of one in shards), or a file of Gaussians of one
            of ``GAUSSIAN_SUFFIXES``.
        config: Config of the model (see :func:`~mmcity.engine.launch.as_config`); needed for a
            checkpoint.
        antialiased: For a file of Gaussians: rendering mode it was trained with. Defaults to None:
            that of the config, without one what the file says.

    Raises:
        FileNotFoundError: If a file is missing.
        UserError: If a checkpoint comes without its config.
        ValueError: If weights do not fit.
    """
    register_all_modules()
    if _is_gaussian_file(weights):
        return _from_gaussians(weights, config, antialiased).eval()
    if config is None:
        raise UserError(f"{weights}: expected a config with a checkpoint, got none: give --config")
    state_dict = load_checkpoint_weights(weights)
    model = MODELS.build(as_config(config).model)
    load_weights(model, state_dict, str(weights))
    return model.eval()


def frame_of_weights(weights: str | os.PathLike) -> SceneFrame:
    """Frame of a scene or pose network in a checkpoint or file of Gaussians, without its model."""
    if _is_gaussian_file(weights):
        return read_gaussian_file(weights)[0].frame or SceneFrame()
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


def info_of_scene(model: nn.Module) -> SplatInfo:
    """Statements on the Gaussians of a scene model for the files that they are written to."""
    return SplatInfo(model="antialiased" if getattr(model, "is_antialiased", False) else "default")


def _is_gaussian_file(weights: str | os.PathLike) -> bool:
    return Path(weights).name.lower().endswith(GAUSSIAN_SUFFIXES)


def _from_gaussians(path, config, antialiased: bool | None) -> nn.Module:
    gaussians, info = read_gaussian_file(path)
    if config is None:
        renderer = dict(type="SplatRenderer", antialiased=info.model == "antialiased")
        if antialiased is not None:
            renderer["antialiased"] = antialiased
        cfg = dict(
            type="GaussianSplatting",
            sh_degree=gaussians.sh_degree or 0,
            sh_degree_interval=0,
            renderer=renderer,
        )
    else:
        cfg = dict(as_config(config).model)
        # A file says nothing of how far the training had come: use all it holds.
        cfg.update(sh_degree_interval=0, exposure=None)
        if antialiased is not None:
            own = dict(cfg.get("renderer") or dict(type="SplatRenderer"))
            cfg["renderer"] = {**own, "antialiased": antialiased}
    model = MODELS.build(cfg)
    rendered = info_of_scene(model).model
    if info.model != "default" and rendered != info.model and (info.model, rendered) != _AS_SURFELS:
        print_log(
            f"{path} says that it was trained with the {info.model} renderer, and is rendered with "
            f"the {rendered} one",
            "current",
            30,
        )
    model.splats.assign_gaussians(gaussians)
    model.placement.frame = gaussians.frame or SceneFrame()
    return model
