"""Strips, animations and pictures of clips of semantic occupancy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmcity.structures import render_birds_eye, render_oblique
from mmcity.structures.palettes import UNIFIED_PALETTE

from .video import write_image, write_video

_BACKGROUND = 255


def compare_clips(
    clips: dict[str, np.ndarray],
    palette: Sequence[Sequence[int]] = UNIFIED_PALETTE,
    frames: Sequence[int] | None = None,
    scale: int = 2,
    gap: int = 4,
) -> np.ndarray:
    """Bird's-eye strips of several clips, one row each, frames side by side.

    Args:
        clips: Labels ``(T, X, Y, Z)`` by name; rows come in this order.
        palette: RGB per label.
        frames: Frames to show. Defaults to all.
        scale: Pixels per voxel. Defaults to 2.
        gap: White pixels between pictures. Defaults to 4.

    Returns:
        uint8 ``(H, W, 3)``.
    """
    rows = []
    for clip in clips.values():
        picked = range(len(clip)) if frames is None else frames
        cells = [
            np.pad(
                render_birds_eye(clip[t], palette, scale=scale),
                ((0, gap), (0, gap), (0, 0)),
                constant_values=_BACKGROUND,
            )
            for t in picked
        ]
        rows.append(np.concatenate(cells, axis=1))
    return np.concatenate(rows, axis=0)


def write_clip_pictures(voxels: np.ndarray, stem: str | Path, scale: int = 3) -> list[Path]:
    """Strip (PNG), oblique view of the first frame (PNG) and bird's-eye GIF of a clip.

    Args:
        voxels: Labels ``(T, X, Y, Z)``.
        stem: Path without suffix; the files are named after it.
        scale: Pixels per voxel. Defaults to 3.

    Returns:
        The files written.
    """
    stem = Path(stem)
    strip = stem.with_name(f"{stem.name}_strip.png")
    oblique = stem.with_name(f"{stem.name}_oblique.png")
    animation = stem.with_name(f"{stem.name}.gif")
    write_image(strip, compare_clips({"clip": voxels}, scale=scale))
    write_image(oblique, render_oblique(voxels[0], scale=scale))
    write_video(animation, (render_birds_eye(frame, scale=scale) for frame in voxels), fps=5)
    return [strip, oblique, animation]
