"""Facts about pictures that every room needs: suffixes, grey values, statistics of ImageNet."""

import os
from pathlib import Path

import torch
from torch import Tensor

from mmcity.utils.scalars import constant

#: In the order in which they are tried where a file may carry any of them.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
#: Weights of red, green and blue in grey (ITU-R BT.601).
GREY_WEIGHTS = (0.299, 0.587, 0.114)
#: Mean and deviation of the RGB values of ImageNet, in [0, 1].
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def list_images(folder: str | os.PathLike, recursive: bool = False) -> list[Path]:
    """Pictures in a folder, sorted by path; hidden files are none.

    Args:
        folder: An existing folder.
        recursive: Also those in folders below. Defaults to False.
    """
    files = Path(folder).glob("**/*" if recursive else "*")
    return sorted(
        file
        for file in files
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    )


def to_grey(image: Tensor) -> Tensor:
    """Grey values ``(H, W)`` of RGB ``(3, H, W)``."""
    return torch.tensordot(constant(GREY_WEIGHTS, image), image, dims=1)


def imagenet_normalized(images: Tensor) -> Tensor:
    """RGB ``(..., 3, H, W)`` in [0, 1], less the mean of ImageNet and over its deviation."""
    mean, std = (constant(v, images)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std
