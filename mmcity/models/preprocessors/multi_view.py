"""Normalises the images of several cameras and stacks the batch."""

from collections.abc import Sequence

import torch

from mmcity.models.layers.batches import stacked
from mmcity.registry import MODELS
from mmcity.utils.images import IMAGENET_MEAN, IMAGENET_STD

from .pinned import PinnedDataPreprocessor

_MEAN, _STD = (tuple(255 * v for v in values) for values in (IMAGENET_MEAN, IMAGENET_STD))


@MODELS.register_module()
class MultiViewPreprocessor(PinnedDataPreprocessor):
    """``inputs.img`` (lists of ``(N, 3, H, W)``) to ``inputs.imgs`` ``(B, N, 3, H, W)``.

    Args:
        mean, std: Per channel, RGB in 0..255. Default to ImageNet's.
        non_blocking: Of no effect: copies to a GPU never block.
    """

    def __init__(
        self, mean: Sequence[float] = _MEAN, std: Sequence[float] = _STD, non_blocking: bool = False
    ) -> None:
        super().__init__(non_blocking)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Move to the device, stack, normalise."""
        data = self.cast_data(data)
        inputs = {key: stacked(value) for key, value in data["inputs"].items()}
        if "img" in inputs:
            inputs["imgs"] = (inputs.pop("img").float() - self.mean) / self.std
        return {**data, "inputs": inputs}
