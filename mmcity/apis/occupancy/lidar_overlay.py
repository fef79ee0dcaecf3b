"""Lidar returns over the camera images of nuScenes key frames: a check of the calibration."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mmcity.utils.failures import ItemFailures
from mmcity.utils.picture_files import read_image
from mmcity.visualization import contact_sheet, write_image
from mmcity.visualization.occupancy_scene import overlay_points

from .foundation_maps import ImageTask, collect_images


def draw_lidar_overlays(
    infos: str | os.PathLike,
    root: str | os.PathLike,
    out: str | os.PathLike,
    *,
    frames: int = 4,
    width: int = 640,
) -> Iterator[Path]:
    """Write a picture of all cameras for each of some key frames.

    Args:
        infos: Info file (format v2).
        root: Folder of nuScenes.
        out: Folder for the pictures.
        frames: Number of key frames, evenly chosen. Defaults to 4.
        width: Of one camera in pixels. Defaults to 640.

    Yields:
        Each file once it is written.

    Raises:
        UserError: If key frames cannot be drawn, once the others are.
    """
    by_frame: dict[str, list[ImageTask]] = {}
    for task in collect_images([Path(infos)], Path(root)):
        by_frame.setdefault(task.lidar_path, []).append(task)
    keys = list(by_frame)
    chosen = np.unique(np.linspace(0, len(keys) - 1, min(frames, len(keys))).astype(int))
    failures = ItemFailures("key frames")
    for key in (keys[i] for i in chosen):
        path = Path(out) / f"{Path(key).name.split('.')[0]}.png"
        with failures.item(key):
            write_image(path, _overlay(key, by_frame[key], width))
        if key not in failures.reasons:
            yield path
    failures.check()


def _overlay(sweep: str, tasks: Sequence[ImageTask], width: int) -> np.ndarray:
    """All cameras of a key frame with the returns of its sweep over them."""
    points = np.fromfile(sweep, dtype="<f4")
    if points.size % 5:
        raise ValueError(f"{sweep}: expected 5 float32 per return, got {points.size} numbers")
    points = points.reshape(-1, 5)[:, :3].astype(np.float64)
    cells = []
    for task in tasks:
        local = points @ task.lidar2cam[:3, :3].T + task.lidar2cam[:3, 3]
        cells.append(overlay_points(read_image(task.path), local, task.cam2img))
    names = [Path(task.path).parent.name for task in tasks]
    half = -(-len(cells) // 2)
    return contact_sheet(
        [cells[:half], cells[half:]],
        captions=["   ".join(names[:half]), "   ".join(names[half:])],
        cell_width=width,
    )
