"""Facts about pictures that every room needs: suffixes, grey values, statistics of ImageNet."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmcity.utils.scalars import constant

#: In the order in which they are tried where a file may carry any of them.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
#: Of phones and cameras, which no reader here takes.
UNREAD_SUFFIXES = (
    *(".heic", ".heif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
)
#: Weights of red, green and blue in grey (ITU-R BT.601).
GREY_WEIGHTS = (0.299, 0.587, 0.114)
#: Mean and deviation of the RGB values of ImageNet, in [0, 1].
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def list_images(folder: str | os.PathLike, recursive: bool = False) -> list[Path]:
    """Pictures in a folder, sorted by path; hidden files are none.

    Args:
        folder: An existing folder.
        recursive: Also those in folders below. Defaults to False.

    Warns:
        UserWarning: If there are pictures of kinds that are not read.
    """
    files = sorted(Path(folder).glob("**/*" if recursive else "*"))
    found = [file for file in files if _has_kind(file, IMAGE_SUFFIXES)]
    unread = _told_unread(_unread(files, found))
    if unread:
        warnings.warn(f"{folder}: {unread}", stacklevel=2)
    return found


def tell_none(folder: str | os.PathLike, recursive: bool = False) -> str:
    """End of a message about too few pictures in a folder: why those that lie there are none."""
    files = sorted(Path(folder).glob("**/*" if recursive else "*"))
    unread = _told_unread(_unread(files, []))
    return f", but {unread}" if unread else ""


def _has_kind(file: Path, suffixes: tuple[str, ...]) -> bool:
    return file.suffix.lower() in suffixes and not file.name.startswith(".")


def _unread(files: Sequence[Path], found: Sequence[Path]) -> list[Path]:
    """Pictures of other kinds, but those that lie there in a kind that is read as well."""
    twins = {file.with_suffix("") for file in found}
    return [
        file
        for file in files
        if _has_kind(file, UNREAD_SUFFIXES) and file.with_suffix("") not in twins
    ]


def _told_unread(files: Sequence[Path]) -> str:
    if not files:
        return ""
    return (
        f"{len(files)} of kinds that are not read, such as {files[0].name}: convert them to JPEG "
        "or PNG"
    )


def to_grey(image: Tensor) -> Tensor:
    """Grey values ``(H, W)`` of RGB ``(3, H, W)``."""
    return torch.tensordot(constant(GREY_WEIGHTS, image), image, dims=1)


def imagenet_normalized(images: Tensor) -> Tensor:
    """RGB ``(..., 3, H, W)`` in [0, 1], less the mean of ImageNet and over its deviation."""
    mean, std = (constant(v, images)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std
