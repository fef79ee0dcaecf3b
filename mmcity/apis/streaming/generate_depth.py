"""Depth priors of the photographs of a scene."""

import os
from pathlib import Path

from rich.progress import Progress

from mmcity.utils.checks import check_choice
from mmcity.utils.cli import UserError

from .depth_estimators import (
    DepthAnythingEstimator,
    DepthEstimator,
    StreamingDepthEstimator,
    ToytownDepthEstimator,
)


def generate_depth(
    scene: str | os.PathLike,
    estimator: str,
    *,
    weights: str | os.PathLike | None = None,
    config: str | os.PathLike | None = None,
    image_dir: str = "train/rgbs",
    out: str = "train/depths",
    device: str | None = None,
) -> list[Path]:
    """Write one 16-bit picture of inverse depth per photograph; those up to date stay.

    Args:
        scene: Folder of the scene.
        estimator: ``depth_anything``, ``toytown`` or ``streaming``.
        weights: Folder (``depth_anything``) or checkpoint (``streaming``). Defaults to None.
        config: Of the streaming model. Defaults to None.
        image_dir: Folder of the photographs below the scene. Defaults to ``train/rgbs``.
        out: Folder of the priors below the scene. Defaults to ``train/depths``.
        device: Defaults to ``cuda`` where there is one, else ``cpu``.

    Returns:
        The files written now.

    Raises:
        UserError: If the estimator misses its weights or config, or ``out`` holds depths that
            were made otherwise.
    """
    scene = Path(scene)
    source = _build_estimator(scene, estimator, weights, config, device)
    with Progress() as progress:
        task = progress.add_task("Estimating depth")
        return source.write(
            scene / image_dir,
            scene / out,
            lambda done, total: progress.update(task, completed=done, total=total),
        )


def _build_estimator(
    scene: Path,
    name: str,
    weights: str | os.PathLike | None,
    config: str | os.PathLike | None,
    device: str | None,
) -> DepthEstimator | StreamingDepthEstimator:
    if name == "toytown":
        return ToytownDepthEstimator(scene)
    check_choice("estimator", name, ("depth_anything", "streaming"), UserError)
    if weights is None:
        raise UserError(f"--weights: expected a file for --estimator {name}, got none")
    if name == "depth_anything":
        return DepthAnythingEstimator(weights, device)
    if config is None:
        raise UserError("--config: expected a file for --estimator streaming, got none")
    return StreamingDepthEstimator(config, weights, device)
