"""Videos of the toy town."""

from pathlib import Path

import numpy as np

from mmcity.utils.checks import count_pairs
from mmcity.utils.fileio import read_numbers, read_text
from mmcity.utils.images import list_images

from .frames import DepthFormat, SequenceFrame, VideoSequence, read_depth
from .sampling import ClipSampling


def toytown_video(
    root: Path,
    split: str | None = None,
    max_interval: int = 3,
    max_depth: float = float("inf"),
    min_travel: float = 0.0,
    min_distance: float = 0.0,
) -> list[VideoSequence]:
    """Sequences below ``root`` (``SEQ/{rgb, depth}``, ``poses.txt``, ``intrinsics.txt``).

    Args:
        root: Folder that the toy town's video writer filled.
        split: ``train`` or ``val``; None for all.
        max_interval: Largest step between the frames of a training clip. Defaults to 3.
        max_depth: Farther depths are given as unknown, in metres. Defaults to none.
        min_travel: Sequences whose camera does not get so many metres away from its start
            are left out; a camera that stands still has no direction of motion.
            Defaults to 0.
        min_distance: Sequences in which more than 3 % of what is seen is nearer than so many
            metres are left out: a parked truck at arm's length hides the street.
            Defaults to 0.
    """
    root = Path(root)
    if split is None:
        names = sorted(p.parent.name for p in root.glob("*/poses.txt"))
    else:
        names = read_text(root / f"{split}.txt").split()
    if not names:
        raise FileNotFoundError(
            f"{root}: expected videos of the toy town, found none: make them with "
            "mmcity data toytown"
        )
    sequences = []
    for name in names:
        folder = root / name
        K = read_numbers(folder / "intrinsics.txt")
        poses = read_numbers(folder / "poses.txt").reshape(-1, 4, 4)
        pictures = list_images(folder / "rgb")
        count_pairs(folder / "poses.txt", images=pictures, poses=poses)
        if np.linalg.norm(poses[:, :3, 3] - poses[0, :3, 3], axis=1).max() < min_travel:
            continue
        frames = [
            SequenceFrame(
                folder / "rgb" / f"{index:06d}.png", folder / "depth" / f"{index:06d}.npy", pose, K
            )
            for index, pose in enumerate(poses)
        ]
        if min_distance > 0 and _near_distance(frames) < min_distance:
            continue
        sampling = ClipSampling(max_interval, 1.0, 0.5)
        sequences.append(
            VideoSequence(name, frames, DepthFormat(maximum=max_depth), sampling=sampling)
        )
    return sequences


def _near_distance(frames: list[SequenceFrame]) -> float:
    """3rd percentile of the depths in all frames, metres."""
    depths = np.stack([read_depth(frame, DepthFormat()) for frame in frames])
    return float(np.quantile(depths[depths > 0], 0.03))
