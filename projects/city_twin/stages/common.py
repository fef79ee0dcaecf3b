"""What several stages need: exact values, training runs, small files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmcity.datasets.io.colmap_model import read_colmap_model

from ..chain import StageContext

__all__ = ["last_checkpoint", "options", "stem_to_pose", "toytown_world", "train", "true_poses"]


def stem_to_pose(model_dir: Path) -> dict[str, torch.Tensor]:
    """``(4, 4)`` float64 camera poses of a COLMAP model by file name without suffix."""
    model = read_colmap_model(model_dir, with_features=False, with_points=False)
    return {
        Path(image.name).stem: torch.from_numpy(np.linalg.inv(image.viewmat))
        for image in model.images.values()
    }


def true_poses(context: StageContext) -> dict[str, torch.Tensor] | None:
    """Exact poses by image stem, where the images come with them."""
    model = context.find("images", "true_model")
    return None if model is None else stem_to_pose(model)


def toytown_world(context: StageContext):
    """Renderer of the exact static town, where there is one."""
    file = context.find("images", "toytown")
    if file is None:
        return None
    from mmcity.datasets.toytown import Renderer, ToytownConfig, build_world

    settings = json.loads(file.read_text())["config"]
    return Renderer(build_world(ToytownConfig.from_dict(settings)))


def options(values: Mapping[str, Any]) -> list[str]:
    """``--cfg-options`` with its words; nothing for no values."""
    words = [f"{key}={value}" for key, value in values.items()]
    return ["--cfg-options", *words] if words else []


def train(
    context: StageContext, config: str, name: str, values: Mapping[str, Any] | None = None
) -> Path:
    """Train a config in the stage's folder, going on where a killed run was.

    Returns:
        The last checkpoint.
    """
    work_dir = context.folder / name
    context.run_tool(
        *("tools/train.py", config, "--work-dir", work_dir, "--resume", "auto"),
        *options(values or {}),
    )
    return last_checkpoint(work_dir)


def last_checkpoint(work_dir: Path) -> Path:
    """The checkpoint that a training run names as its last."""
    return Path((work_dir / "last_checkpoint").read_text().strip())
