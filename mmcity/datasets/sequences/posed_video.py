"""Videos described by one ``cameras.json``."""

from pathlib import Path

import numpy as np

from mmcity.utils.fileio import read_json

from .frames import DepthFormat, SequenceFileError, SequenceFrame, VideoSequence


def posed_video(
    root: Path, depth_scale: float | None = None, use_depth_camera: bool = False
) -> list[VideoSequence]:
    """The video below ``root``, or all videos in its sub-folders.

    ``cameras.json`` holds ``K`` and ``frames`` with ``file``, ``depth`` and ``cam2world``,
    optionally ``time`` per frame, ``depth_scale`` and ``K_depth``.

    Args:
        root: Folder with ``cameras.json``, or of such folders.
        depth_scale: Stored depth per metre; None takes the file's.
        use_depth_camera: Take the intrinsics of the depth camera. Defaults to False.
    """
    root = Path(root)
    files = [root / "cameras.json"]
    if not files[0].is_file():
        files = sorted(root.glob("*/cameras.json"))
    if not files:
        raise FileNotFoundError(f"{root}: expected cameras.json here or one level below, got none")
    return [_read(file, depth_scale, use_depth_camera) for file in files]


def _read(file: Path, depth_scale: float | None, use_depth_camera: bool) -> VideoSequence:
    content = read_json(file)
    scale = content.get("depth_scale", depth_scale)
    if scale is None:
        raise SequenceFileError(f"{file}: expected a depth_scale, got none: give it as an argument")
    K = np.array(content["K_depth" if use_depth_camera else "K"], dtype=np.float64)
    frames, times = [], []
    for row in content["frames"]:
        pose = np.array(row["cam2world"], dtype=np.float64)
        depth = file.parent / row["depth"] if "depth" in row else None
        frames.append(SequenceFrame(file.parent / row["file"], depth, pose, K))
        times.append(row.get("time"))
    stamps = None if any(t is None for t in times) else times
    return VideoSequence(file.parent.name, frames, DepthFormat(scale=scale), stamps)
