"""From decoded photographs to what a renderer is compared with."""

from typing import Any

import torch
from torch import Tensor

from mmcity.registry import MODELS

from .pinned import PinnedDataPreprocessor


@MODELS.register_module()
class PosedImagePreprocessor(PinnedDataPreprocessor):
    """Move a batch to the device and turn 8-bit pictures into floats in [0, 1].

    Pictures of one size are stacked to (B, 3, H, W); others stay a list.
    """

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """See :class:`mmengine.model.BaseDataPreprocessor`."""
        data = self.cast_data(data)
        inputs = data.get("inputs")
        if inputs is not None:
            pictures = inputs["img"] if isinstance(inputs, dict) else inputs
            data["inputs"] = self._stack([_as_float(picture) for picture in pictures])
        return data

    @staticmethod
    def _stack(pictures: list[Tensor]) -> Tensor | list[Tensor]:
        if len({picture.shape for picture in pictures}) == 1:
            return torch.stack(pictures)
        return pictures


def _as_float(picture: Tensor) -> Tensor:
    if picture.dtype == torch.uint8:
        return picture.float() / 255
    return picture
