"""Photographs on their way into a pose network."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcity.models.layers import HostNumbers
from mmcity.models.preprocessors import PinnedDataPreprocessor
from mmcity.registry import MODELS
from mmcity.structures import Cameras
from mmcity.utils.checks import check_choice
from mmcity.utils.images import IMAGENET_MEAN, IMAGENET_STD

from .canonical_view import canonical_K, canonical_view

_STATISTICS = ("imagenet", "image")
#: Of 1: a plain picture is not blown up to noise.
_MIN_DEVIATION = 0.02


@MODELS.register_module()
class LocalizationPreprocessor(HostNumbers, PinnedDataPreprocessor):
    """Stack images of one size and normalise them by the statistics of ImageNet.

    Args:
        size (tuple[int, int], optional): Height and width to resize to (bilinear with
            antialiasing). Without it images of training must already agree, and later ones are
            brought to their size. Defaults to None.
        normalize_focal (bool): Show each picture as one camera with square pixels, the
            principal point in the middle and the median field of view of training would have
            taken it, see :func:`canonical_view`, so that pictures of several cameras may be
            mixed. Needs ``size`` and samples with cameras; :class:`PoseFrameHook` measures the
            field of view. Defaults to False.
        min_seen (float): With ``normalize_focal``: pictures that show less of that view are
            refused. Defaults to 0.5.
        statistics (str): ``imagenet`` normalises by the mean and deviation of that data set, as
            backbones trained there expect; ``image`` by those of each channel of each picture,
            which takes away exposure and white balance. Defaults to ``imagenet``.
        non_blocking (bool): Of no effect: copies to a GPU never block.
    """

    def __init__(
        self,
        size: tuple[int, int] | None = None,
        normalize_focal: bool = False,
        min_seen: float = 0.5,
        statistics: str = "imagenet",
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        check_choice("statistics", statistics, _STATISTICS)
        self.statistics = statistics
        self.size = None if size is None else tuple(size)
        self.normalize_focal, self.min_seen = normalize_focal, min_seen
        if normalize_focal:
            if size is None:
                raise ValueError("size: expected with normalize_focal, got none")
            self.on_host = ("focal",)
            #: Focal length of the view that the network sees, px; 0 before it is measured.
            self.register_buffer("focal", torch.zeros(()))
        elif size is None:
            self.on_host = ("trained_size",)
            #: Height and width in training; 0 before.
            self.register_buffer("trained_size", torch.zeros(2, dtype=torch.long))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def normalize(self, pictures: Tensor) -> Tensor:
        """Pictures ``(..., 3, h, w)`` in [0, 1], normalised."""
        if self.statistics == "image":
            deviation, mean = torch.std_mean(pictures, dim=(-2, -1), keepdim=True)
            return (pictures - mean) / deviation.clamp_min(_MIN_DEVIATION)
        return (pictures - self.mean) / self.std

    def fit_focal(self, cameras: Cameras) -> None:
        """Take the view of ``normalize_focal`` from the cameras of training."""
        if self.normalize_focal and float(self.focal) == 0:
            self.focal.fill_(
                (cameras.Ks[:, 0, 0] / cameras.widths.to(cameras.Ks)).median() * self.size[1]
            )

    def view_cameras(self, cameras: Cameras) -> Cameras:
        """Cameras of what the network sees of the pictures of others."""
        if self.size is None:
            return cameras
        height, width = self.size
        if not self.normalize_focal:
            return cameras.resize(width, height)
        K = canonical_K(self.size, self._known_focal()).to(cameras.Ks)
        return Cameras(K, cameras.viewmats, width, height, validate=False)

    def _known_focal(self) -> float:
        if float(self.focal) == 0:
            raise ValueError("normalize_focal: expected a view, got none: add the PoseFrameHook")
        return float(self.focal)

    def view(self, image: Tensor, camera: Cameras | None = None, name: str = "an image") -> Tensor:
        """The network's view of a picture ``(3, H, W)``, ``(3, h, w)``.

        Raises:
            ValueError: With ``normalize_focal``, if the picture shows too little of it.
        """
        if self.normalize_focal:
            picture, seen = canonical_view(image, camera.Ks[0], self.size, self._known_focal())
            if seen < self.min_seen:
                raise ValueError(
                    f"{name}: shows {seen:.0%} of the field of view that the network knows, "
                    f"expected {self.min_seen:.0%} at least"
                )
            return picture
        size = self.size
        if size is None and not self.training:
            size = tuple(self.trained_size.tolist())
        if not size or not all(size) or tuple(image.shape[-2:]) == size:
            return image
        return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]

    def forward(self, data: dict, training: bool = False) -> dict:
        """Batch of ``inputs`` (``img`` of each, uint8 or float in [0, 1]) and ``data_samples``.

        Samples stay where they are: only the host reads their cameras.

        Raises:
            ValueError: If images differ in size.
        """
        images = self.cast_data(data["inputs"])
        images = images["img"] if isinstance(images, dict) else images
        images = [image["img"] if isinstance(image, dict) else image for image in images]
        images = [image.float() / 255 if image.dtype == torch.uint8 else image for image in images]
        samples = data.get("data_samples") or [None] * len(images)
        if self.normalize_focal and any(sample is None for sample in samples):
            raise ValueError("normalize_focal: expected samples with the cameras of the images")
        images = [
            self.view(image, *(() if sample is None else (sample.camera, _name(sample))))
            for image, sample in zip(images, samples)
        ]
        sizes = sorted({tuple(image.shape) for image in images})
        if len(sizes) > 1:
            raise ValueError(
                f"images: expected one size for pose regression, got {sizes[:4]}: set "
                "size=(height, width) of the preprocessor"
            )
        if training and self.size is None and not self.trained_size.any():
            self.trained_size.copy_(torch.tensor(images[0].shape[-2:]))
        return {
            "inputs": self.normalize(torch.stack(list(images))),
            "data_samples": data.get("data_samples"),
        }


def _name(sample) -> str:
    return sample.get("img_name", "an image")
