"""Clips from images that see the same things, where a data set says which."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .sampling import reachable_images, sample_overlap_walk


@dataclass(frozen=True)
class ImageGroups:
    """For each image those that overlap with it, itself first, then by falling overlap.

    Attributes:
        groups: Image numbers of each group.
        share: Of the clips that come from a group; the others follow the order of time.
        nearest: Lower and upper bound of a uniform factor: a clip of n images is picked from
            the first n times the factor, and sorted by number three times out of four
            (ScanNet++). None picks from the whole group, in random order.
    """

    groups: Sequence[Sequence[int]]
    share: float = 1.0
    nearest: tuple[float, float] | None = None

    def can_fill(self, num_views: int) -> bool:
        """Whether clips of this length exist (in the order of time, if not in groups)."""
        return self.share < 1 or any(len(group) >= num_views for group in self.groups)

    def draw(self, start: int, num_views: int, rng: np.random.Generator) -> list[int] | None:
        """Image numbers of a clip; None for one in the order of time.

        Args:
            start: Number of the group. If that one is too small, another one is drawn.
            num_views: Images wanted.
            rng: Random numbers.
        """
        if rng.random() >= self.share:
            return None
        large = [k for k, group in enumerate(self.groups) if len(group) >= num_views]
        if not large:
            return None
        group = np.asarray(self.groups[start if start in large else rng.choice(large)])
        if self.nearest is None:
            return rng.permutation(group)[:num_views].tolist()
        pool = group[: int(num_views * rng.uniform(*self.nearest))]
        picked = np.sort(rng.choice(pool, num_views, replace=False))
        return (rng.permutation(picked) if rng.random() > 0.75 else picked).tolist()


@dataclass(frozen=True)
class OverlapGraph:
    """Overlap scores of all pairs of images; clips are random walks (BlendedMVS).

    Attributes:
        scores: ``(N, N)``.
        threshold: Pairs above it are neighbours.
    """

    scores: np.ndarray
    threshold: float = 0.2

    def can_fill(self, num_views: int) -> bool:
        """Whether enough images are reachable from one another."""
        linked = self.scores > self.threshold
        return any(
            len(reachable_images(linked, start)) >= num_views for start in range(len(linked))
        )

    def draw(self, start: int, num_views: int, rng: np.random.Generator) -> list[int]:
        """Image numbers of a walk; any image with enough others in reach may begin it."""
        walk = sample_overlap_walk(self.scores, num_views, rng, self.threshold)
        if walk is None:
            raise ValueError(
                f"num_views: expected images with {num_views - 1} others in reach: see can_fill"
            )
        return walk
