"""Frames from folders, videos, cameras and arrays, one at a time."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mmcity.datasets.transforms.network_images import composite_on_white
from mmcity.datasets.transforms.posed_images import ImageReadError, read_image
from mmcity.utils.cli import UserError

__all__ = ["Frame", "SourceError", "open_source"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")


class SourceError(UserError, ValueError):
    """A source of frames cannot be read."""


@dataclass
class Frame:
    """One picture.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        name: File stem, or a number.
        timestamp: Seconds; the frame number where the source knows no time.
    """

    image: np.ndarray
    name: str
    timestamp: float


def open_source(
    source: str | os.PathLike | int | Iterable, stride: int = 1, max_frames: int | None = None
) -> Iterator[Frame]:
    """Frames of a source, lazily.

    Args:
        source: Folder of images (sorted by name), one image, video file, ``'webcam:0'`` or a
            camera number, or an iterable of ``(H, W, 3)`` uint8 RGB arrays or PIL images.
        stride: Take every n-th frame. Defaults to 1.
        max_frames: Stop after so many. Defaults to None.

    Raises:
        SourceError: If the source is empty, missing or broken; names the file.
    """
    if stride < 1:
        raise SourceError(f"stride must be at least 1, got {stride}")
    if isinstance(source, str | os.PathLike) and not str(source).startswith("webcam:"):
        path = Path(source)
        if path.is_dir():
            frames = _folder_frames(path)
        elif not path.is_file():
            raise SourceError(f"{path}: no such folder, image or video")
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            frames = iter([Frame(_read_image(path), path.stem, 0.0)])
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            frames = _video_frames(str(path))
        else:
            raise SourceError(
                f"{path}: expected a folder, an image {IMAGE_SUFFIXES} or a video {VIDEO_SUFFIXES}"
            )
    elif isinstance(source, str | int):
        number = str(source).removeprefix("webcam:")
        if not number.isdigit():
            raise SourceError(f"expected 'webcam:NUMBER', got {source!r}")
        frames = _video_frames(int(number))
    else:
        frames = _array_frames(source)
    return _select(frames, stride, max_frames)


def _select(frames: Iterator[Frame], stride: int, max_frames: int | None) -> Iterator[Frame]:
    taken = 0
    for index, frame in enumerate(frames):
        if max_frames is not None and taken >= max_frames:
            return
        if index % stride == 0:
            taken += 1
            yield frame


def _read_image(path: Path) -> np.ndarray:
    try:
        return np.array(composite_on_white(Image.fromarray(read_image(path, "RGBA"))))
    except ImageReadError as error:
        raise SourceError(str(error)) from error


def _folder_frames(folder: Path) -> Iterator[Frame]:
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise SourceError(f"{folder}: no images {IMAGE_SUFFIXES} in this folder")
    return (Frame(_read_image(f), f.stem, float(i)) for i, f in enumerate(files))


def _video_frames(target: str | int) -> Iterator[Frame]:
    import cv2

    capture = cv2.VideoCapture(target)
    if not capture.isOpened():
        raise SourceError(f"{target}: cannot be opened as a video or camera")
    fps = capture.get(cv2.CAP_PROP_FPS) or 0.0

    def read() -> Iterator[Frame]:
        try:
            index = 0
            while True:
                ok, image = capture.read()
                if not ok:
                    break
                stamp = index / fps if fps > 0 else float(index)
                yield Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), f"{index:06d}", stamp)
                index += 1
            if index == 0:
                raise SourceError(f"{target}: holds no frame that can be decoded")
        finally:
            capture.release()

    return read()


def _array_frames(arrays: Iterable) -> Iterator[Frame]:
    for index, item in enumerate(arrays):
        if isinstance(item, Frame):
            yield item
            continue
        if isinstance(item, Image.Image):
            item = np.array(composite_on_white(item))
        item = np.asarray(item)
        if item.ndim != 3 or item.shape[-1] != 3 or item.dtype != np.uint8:
            raise SourceError(
                f"frame {index}: expected (H, W, 3) uint8 RGB, got {item.shape} {item.dtype}"
            )
        yield Frame(item, f"{index:06d}", float(index))
