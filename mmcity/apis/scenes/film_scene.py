"""Film of a flight through a scene."""

import os
from collections.abc import Mapping
from pathlib import Path

from mmcity.datasets import ColmapDataset
from mmcity.engine.launch import load_config
from mmcity.utils.cli import UserError
from mmcity.visualization import (
    colorize_depth,
    colorize_normals,
    fly_through,
    write_image,
    write_video,
)
from mmcity.visualization.video import pictures_beside

from .scene_renderer import SceneRenderer


def film_scene(
    weights: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    config: str | os.PathLike | None = None,
    cameras: str | os.PathLike | None = None,
    frames: int = 96,
    fps: float = 24.0,
    format: str = "mp4",
    long_side: int = 640,
    cfg_options: Mapping[str, object] | None = None,
) -> list[Path]:
    """Film a flight past the cameras of a scene; draw its middle view, depth and normals.

    Args:
        weights: Checkpoint with its ``config``, or a ``.ply`` file.
        out: Folder. Defaults to ``NAME_pictures`` beside the weights.
        config: Config of the scene. Defaults to None.
        cameras: COLMAP folder with the cameras of the flight, which a ``.ply`` file does not
            hold. Defaults to the training cameras of a checkpoint.
        frames: Of the film. Defaults to 96.
        fps: Frames per second. Defaults to 24.
        format: ``mp4`` or ``gif``. Defaults to ``mp4``.
        long_side: Longer side of the pictures in pixels. Defaults to 640.
        cfg_options: Dotted keys of the config and their values. Defaults to None.

    Returns:
        ``fly_through.FORMAT``, ``view.png``, ``depth.png`` and ``normals.png``.

    Raises:
        UserError: If no cameras are known.
    """
    out = pictures_beside(weights) if out is None else Path(out)
    cfg = None if config is None else load_config(config, cfg_options)
    renderer = SceneRenderer(cfg, weights)
    known = renderer.training_cameras
    if cameras is not None:
        views = ColmapDataset(cameras, split="all", require_points=False)
        views.express_in(renderer.frame)
        known = views.cameras
    if known is None:
        raise UserError(
            f"{weights}: expected a scene with cameras, got none: name a COLMAP folder by --cameras"
        )
    width, height = int(known.widths[0]), int(known.heights[0])
    path = fly_through(known, frames).scale(long_side / max(width, height))
    film = out / f"fly_through.{format}"
    write_video(film, (picture["rgb"] for picture in renderer.iterate(path)), fps)
    middle = next(renderer.iterate(path[len(path) // 2]))
    solid = middle["alpha"] > 0.5
    pictures = {
        out / "view.png": middle["rgb"],
        out / "depth.png": colorize_depth(middle["depth"], solid),
        out / "normals.png": colorize_normals(middle["normals"], solid),
    }
    for file, picture in pictures.items():
        write_image(file, picture)
    return [film, *pictures]
