"""Retrieval of mapped images that look like a query."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from mmcity.registry import TASK_UTILS

from .matching import SIFTMatcher

_ROUNDS = 8
_SAMPLES = 20_000


@TASK_UTILS.register_module()
class ThumbnailRetrieval:
    """Correlation of small grey pictures: fast, and blind to shifts and turns.

    Args:
        size (tuple[int, int]): Height and width of a thumbnail. Defaults to (24, 32).
    """

    def __init__(self, size: tuple[int, int] = (24, 32)) -> None:
        self.size = tuple(size)

    def fit(self, images: Iterable[Tensor]) -> None:
        """Remember the mapped images ``(3, H, W)`` in [0, 1]."""
        self.table = torch.stack([self.describe(image) for image in images])

    def describe(self, image: Tensor) -> Tensor:
        """Vector of mean 0 and length 1."""
        small = torch.nn.functional.interpolate(
            image.mean(0)[None, None], self.size, mode="bilinear", antialias=True
        ).flatten()
        small = small - small.mean()
        return small / small.norm().clamp_min(1e-12)

    def likeness(self, image: Tensor) -> Tensor:
        """``(N,)`` likeness of a query to each mapped image, larger is more alike."""
        return self.table @ self.describe(image)


@TASK_UTILS.register_module()
class VLADRetrieval:
    """Residuals of local descriptors to a few words, summed over an image (Jegou et al., 2010).

    Stands shifts, turns and other focal lengths; needs no weights, since the words come from
    the mapped images.

    Args:
        words (int): Defaults to 32.
        seed (int): Of the choice of words. Defaults to 0.
    """

    def __init__(self, words: int = 32, seed: int = 0) -> None:
        self.words, self.seed = words, seed
        self.features = SIFTMatcher(max_keypoints=600)

    def fit(self, images: Iterable[Tensor]) -> None:
        """Choose words and remember the mapped images ``(3, H, W)`` in [0, 1]."""
        descriptors = [self._extract(image) for image in images]
        every = torch.cat(descriptors)
        if not len(every):
            raise ValueError("mapped images: expected key points, got none: use ThumbnailRetrieval")
        rng = np.random.RandomState(self.seed)
        chosen = rng.permutation(len(every))[:_SAMPLES]
        sample = every[torch.from_numpy(chosen)]
        centers = sample[: self.words].clone()
        for _ in range(_ROUNDS):
            nearest = torch.cdist(sample, centers).argmin(1)
            for word in range(len(centers)):
                members = sample[nearest == word]
                if len(members):
                    centers[word] = members.mean(0)
        self.centers = centers
        self.table = torch.stack([self._aggregate(d) for d in descriptors])

    def _extract(self, image: Tensor) -> Tensor:
        return torch.from_numpy(self.features.extract(image)[1])

    def _aggregate(self, descriptors: Tensor) -> Tensor:
        out = torch.zeros_like(self.centers)
        if len(descriptors):
            nearest = torch.cdist(descriptors, self.centers).argmin(1)
            out.index_add_(0, nearest, descriptors - self.centers[nearest])
        # Each word counts alike, however often its texture repeats (Arandjelovic, Zisserman 2013).
        out = torch.nn.functional.normalize(out, dim=1).flatten()
        return torch.nn.functional.normalize(out, dim=0)

    def likeness(self, image: Tensor) -> Tensor:
        """``(N,)`` likeness of a query to each mapped image, larger is more alike."""
        return self.table @ self._aggregate(self._extract(image))
