"""Photographs on their way into a pose network."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmcity.registry import MODELS

__all__ = ["LocalizationPreprocessor"]

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_STATISTICS = ("imagenet", "image")
#: Of 1: a plain picture is not blown up to noise.
_MIN_DEVIATION = 0.02


@MODELS.register_module()
class LocalizationPreprocessor(BaseDataPreprocessor):
    """Stack images of one size and normalise them by the statistics of ImageNet.

    Args:
        size (tuple[int, int], optional): Height and width to resize to (bilinear with
            antialiasing); without it images must already agree. Defaults to None.
        statistics (str): ``imagenet`` normalises by the mean and deviation of that data set, as
            backbones trained there expect; ``image`` by those of each channel of each picture,
            which takes away exposure and white balance. Defaults to ``imagenet``.
        non_blocking (bool): See mmengine.
    """

    def __init__(
        self,
        size: tuple[int, int] | None = None,
        statistics: str = "imagenet",
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        if statistics not in _STATISTICS:
            raise ValueError(f"statistics: expected one of {_STATISTICS}, got {statistics!r}")
        self.statistics = statistics
        self.size = None if size is None else tuple(size)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def normalize(self, pictures: Tensor) -> Tensor:
        """Pictures ``(..., 3, h, w)`` in [0, 1], normalised."""
        if self.statistics == "image":
            deviation, mean = torch.std_mean(pictures, dim=(-2, -1), keepdim=True)
            return (pictures - mean) / deviation.clamp_min(_MIN_DEVIATION)
        return (pictures - self.mean) / self.std

    def forward(self, data: dict, training: bool = False) -> dict:
        """Batch of ``inputs`` (``img`` of each, uint8 or float in [0, 1]) and ``data_samples``.

        Raises:
            ValueError: If images differ in size.
        """
        data = self.cast_data(data)
        images = data["inputs"]
        images = images["img"] if isinstance(images, dict) else images
        images = [image["img"] if isinstance(image, dict) else image for image in images]
        images = [image.float() / 255 if image.dtype == torch.uint8 else image for image in images]
        if self.size is not None:
            images = [
                image
                if tuple(image.shape[-2:]) == self.size
                else F.interpolate(image[None], self.size, mode="bilinear", antialias=True)[0]
                for image in images
            ]
        sizes = sorted({tuple(image.shape) for image in images})
        if len(sizes) > 1:
            raise ValueError(
                f"pose regression needs images of one size, got {sizes[:4]}. What to do: set "
                "size=(height, width) of the preprocessor"
            )
        return {
            "inputs": self.normalize(torch.stack(list(images))),
            "data_samples": data.get("data_samples"),
        }
