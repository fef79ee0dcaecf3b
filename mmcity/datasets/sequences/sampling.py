"""Drawing clips from sequences and mixing data sets within an epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClipSampling:
    """Spacing of the frames of a clip.

    Attributes:
        max_interval: Largest step between neighbouring frames.
        video_probability: Of a clip in the order of time.
        fixed_probability: Of one common interval within such a clip.
        shuffle_block: Clips out of order are shuffled within blocks of so many frames; None
            for all at once.
    """

    max_interval: int = 8
    video_probability: float = 1.0
    fixed_probability: float = 0.5
    shuffle_block: int | None = None


def _block_shuffle(values: list[int], block: int | None, rng: np.random.Generator) -> list[int]:
    if block is None:
        return rng.permutation(values).tolist()
    blocks = [values[i : i + block] for i in range(0, len(values), block)]
    order = rng.permutation(len(blocks))
    return [v for b in order for v in rng.permutation(blocks[b]).tolist()]


def sample_clip(
    num_frames: int, start: int, num_views: int, sampling: ClipSampling, rng: np.random.Generator
) -> list[int]:
    """Frame numbers of a clip.

    Intervals are uniform in [1, max]; frames beyond the end are replaced by random unused
    ones.

    Args:
        num_frames: Frames of the sequence.
        start: First frame.
        num_views: Frames of the clip.
        sampling: Spacing.
        rng: Random numbers.

    Raises:
        ValueError: If the sequence is shorter than the clip.
    """
    if num_frames < num_views:
        raise ValueError(f"num_views: expected at most {num_frames} frames, got {num_views}")
    if num_views == 1:
        return [start]
    left = num_frames - start
    bound = max(1, min(sampling.max_interval, 2 * (left - 1) // (num_views - 1)))
    is_video = rng.random() < sampling.video_probability
    if is_video and rng.random() < sampling.fixed_probability:
        intervals = np.full(num_views - 1, rng.integers(1, bound + 1))
    else:
        intervals = rng.integers(1, bound + 1, num_views - 1)
    wanted = start + np.concatenate([[0], np.cumsum(intervals)])
    inside = [int(i) for i in wanted if i < num_frames]
    unused = np.setdiff1d(np.arange(num_frames), inside)
    extra = rng.choice(unused, num_views - len(inside), replace=False).tolist()
    frames = inside + extra
    if is_video:
        return sorted(frames)
    return _block_shuffle(sorted(frames), sampling.shuffle_block, rng)


def sample_overlap_walk(
    overlap: np.ndarray, num_views: int, rng: np.random.Generator, threshold: float = 0.2
) -> list[int] | None:
    """Random walk over images that see the same things, none of them twice.

    Args:
        overlap: Scores ``(N, N)``; pairs above ``threshold`` are neighbours, and the larger
            the excess the likelier the step.
        num_views: Images wanted.
        rng: Random numbers.
        threshold: Defaults to 0.2.

    Returns:
        Image numbers in the order of the walk, or None if no start reaches enough images.
        From a dead end the walk goes on at an image seen before.
    """
    weight = np.clip(overlap - threshold, 0, None)  # a copy
    np.fill_diagonal(weight, 0)
    for start in rng.permutation(len(weight)):
        if len(reachable_images(weight > 0, int(start))) < num_views:
            continue
        walk = [int(start)]
        while len(walk) < num_views:
            for at in reversed(walk):
                chance = weight[at].copy()
                chance[walk] = 0
                if chance.sum() > 0:
                    walk.append(int(rng.choice(len(chance), p=chance / chance.sum())))
                    break
        return walk
    return None


def reachable_images(linked: np.ndarray, start: int) -> set[int]:
    """Numbers that can be reached from ``start`` (included) over links ``(N, N)`` bool."""
    seen, todo = {start}, [start]
    while todo:
        for other in np.flatnonzero(linked[todo.pop()]):
            if int(other) not in seen:
                seen.add(int(other))
                todo.append(int(other))
    return seen


def assemble_epoch(lengths: Sequence[int], quotas: Sequence[int], epoch: int) -> np.ndarray:
    """Order of (data set, item) in one epoch, ``(sum(quotas), 2)``.

    Each data set is permuted with seed 777 + epoch and extended cyclically to its quota;
    the concatenation is shuffled with seed 788 + epoch.
    """
    parts = []
    for index, (length, quota) in enumerate(zip(lengths, quotas)):
        if length == 0:
            raise ValueError(f"data set {index}: expected samples, got none")
        order = np.random.default_rng(777 + epoch).permutation(length)
        items = np.resize(order, quota)
        parts.append(np.stack([np.full(quota, index), items], axis=1))
    rows = np.concatenate(parts)
    return rows[np.random.default_rng(788 + epoch).permutation(len(rows))]
