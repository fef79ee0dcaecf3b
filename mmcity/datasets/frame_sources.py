"""Frames from folders, videos, cameras and arrays, one at a time."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mmcity.datasets.transforms.network_images import composite_on_white
from mmcity.utils.checks import check_choice
from mmcity.utils.cli import UserError
from mmcity.utils.dependencies import import_library
from mmcity.utils.failures import ItemFailures
from mmcity.utils.images import IMAGE_SUFFIXES, list_images, tell_none
from mmcity.utils.picture_files import ImageReadError, read_image
from mmcity.utils.picture_names import natural_order, output_names, picture_name

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")


class SourceError(UserError, ValueError):
    """A source of frames cannot be read."""


@dataclass
class Frame:
    """One picture.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        name: File name without suffix (with it where two differ by nothing else), or a number.
        timestamp: Seconds; the frame number where the source knows no time.
    """

    image: np.ndarray
    name: str
    timestamp: float


def open_source(
    source: str | os.PathLike | int | Iterable,
    stride: int = 1,
    max_frames: int | None = None,
    decoder: str = "opencv",
    upright: bool = True,
) -> Iterator[Frame]:
    """Frames of a source, lazily.

    Args:
        source: Folder of images (in the order of the numbers in their names), one image, video
            file, ``'webcam:0'`` or a camera number, or an iterable of ``(H, W, 3)`` uint8 RGB
            arrays or PIL images.
        stride: Take every n-th frame. Defaults to 1.
        max_frames: Stop after so many. Defaults to None.
        decoder: What reads video files and cameras: ``'opencv'``, or ``'pyav'`` (package av),
            which knows the time of every frame of films with a varying rate.
            Defaults to ``'opencv'``.
        upright: Turn photographs as their EXIF orientation says. Cameras and maps of scenes
            belong to the stored pixels. Defaults to True.

    Raises:
        SourceError: If the source is empty, missing or broken; names the file. Pictures of a
            folder that do not decode are left out, and are an error after the last frame.
    """
    check_choice("decoder", decoder, DECODERS, SourceError)
    if stride < 1:
        raise SourceError(f"stride: expected at least 1, got {stride}")
    frames: Iterator[Frame | None]
    failures = ItemFailures("pictures")
    if isinstance(source, str | os.PathLike) and not str(source).startswith("webcam:"):
        path = Path(source)
        if path.is_dir():
            frames = _folder_frames(path, failures, upright)
        elif not path.is_file():
            raise SourceError(f"{path}: expected a folder, image or video, found none")
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            frames = _picture_frames([path], failures, upright)
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            frames = DECODERS[decoder](str(path))
        else:
            raise SourceError(
                f"{path}: expected a folder, an image {IMAGE_SUFFIXES} or a video {VIDEO_SUFFIXES}"
            )
    elif isinstance(source, str | int):
        number = str(source).removeprefix("webcam:")
        if not number.isdigit():
            raise SourceError(f"expected 'webcam:NUMBER', got {source!r}")
        frames = DECODERS[decoder](int(number))
    else:
        frames = _array_frames(source)
    return _select(frames, stride, max_frames, failures)


def _select(
    frames: Iterator[Frame | None], stride: int, max_frames: int | None, failures: ItemFailures
) -> Iterator[Frame]:
    taken = 0
    for index, frame in enumerate(frames):
        if max_frames is not None and taken >= max_frames:
            break
        if index % stride == 0 and frame is not None:
            taken += 1
            yield frame
    failures.check()


def _read_image(path: Path, upright: bool) -> np.ndarray:
    try:
        picture = Image.fromarray(read_image(path, "RGBA", upright))
        return np.array(composite_on_white(picture))
    except ImageReadError as error:
        raise SourceError(str(error)) from error


def _folder_frames(folder: Path, failures: ItemFailures, upright: bool) -> Iterator[Frame | None]:
    files = list_images(folder)
    if not files:
        raise SourceError(
            f"{folder}: expected images {IMAGE_SUFFIXES}, found none{tell_none(folder)}"
        )
    return _picture_frames(natural_order(files), failures, upright)


def _picture_frames(
    files: Sequence[Path], failures: ItemFailures, upright: bool
) -> Iterator[Frame | None]:
    """Frames of picture files; None for those that do not decode."""
    names = output_names([file.name for file in files], "")
    for index, file in enumerate(files):
        frame = None
        with failures.item(file.name):
            frame = Frame(_read_image(file, upright), names[picture_name(file.name)], float(index))
        yield frame


def _opencv_frames(target: str | int) -> Iterator[Frame]:
    import cv2

    capture = cv2.VideoCapture(target)
    if not capture.isOpened():
        raise SourceError(f"{target}: expected a video or camera, got what cannot be opened")
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
                raise SourceError(f"{target}: expected frames that can be decoded, got none")
        finally:
            capture.release()

    return read()


def _pyav_frames(target: str | int) -> Iterator[Frame]:
    av = import_library("av", "decoder='pyav'")
    device = "v4l2" if isinstance(target, int) else None
    name = f"/dev/video{target}" if isinstance(target, int) else target
    try:
        container = av.open(name, mode="r", format=device)
    except (av.FFmpegError, OSError) as error:
        raise SourceError(f"{name}: expected a video or camera, got {error}") from error
    if not container.streams.video:
        container.close()
        raise SourceError(f"{name}: expected a video stream, found none")

    def read() -> Iterator[Frame]:
        index = 0
        with container:
            try:
                for picture in container.decode(video=0):
                    stamp = float(index) if picture.time is None else picture.time
                    image = picture.to_ndarray(format="rgb24")
                    image = np.ascontiguousarray(np.rot90(image, picture.rotation // 90))
                    yield Frame(image, f"{index:06d}", stamp)
                    index += 1
            except av.FFmpegError as error:
                raise SourceError(
                    f"{name}: expected a frame after frame {index}, got {error}"
                ) from error
        if index == 0:
            raise SourceError(f"{name}: expected frames that can be decoded, got none")

    return read()


#: What opens videos and cameras, by name.
DECODERS = {"opencv": _opencv_frames, "pyav": _pyav_frames}


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
