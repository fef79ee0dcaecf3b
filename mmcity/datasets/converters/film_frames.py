"""Frames of a film that a scene is made of: sharp ones, the camera having moved in between."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from mmengine.logging import print_log
from PIL import Image

from mmcity.datasets.frame_sources import VIDEO_SUFFIXES, Frame, SourceError, open_source
from mmcity.utils.fileio import atomic_path

#: Longer sides in px at which movement and sharpness are measured.
_MOVEMENT_SIDE, _SHARPNESS_SIDE = 320, 960
#: Corners that are followed, and those that have to be found again.
_CORNERS, _FEWEST_CORNERS = 200, 15
#: Pixels below which a movement is noise of the sensor and the codec.
_STILL = 0.15
#: Of the sharpness of its neighbourhood, below which a picture is blurred.
BLURRED = 0.4
_FEWEST = 20


@dataclass
class FilmFrames:
    """Frames that were taken from a film.

    Attributes:
        folder: Of the pictures, named by the numbers of their frames.
        names: Of the pictures.
        count: Frames of the film.
        blurred: Numbers of places of the film of which all frames are blurred.
        movement: Path of what the film shows, in diagonals of the picture.
    """

    folder: Path
    names: list[str]
    count: int
    blurred: list[int]
    movement: float

    def __str__(self) -> str:
        text = f"{len(self.names)} of {self.count} frames taken"
        return text + (f", {len(self.blurred)} places blurred" if self.blurred else "")


def is_film(path: str | os.PathLike) -> bool:
    """Whether a path is a film rather than a folder of pictures."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES and Path(path).is_file()


def sharpness(image: np.ndarray) -> float:
    """Energy of fine detail of a picture, relative to its contrast.

    Args:
        image: ``(H, W, 3)`` or ``(H, W)`` uint8.
    """
    grey = _reduced(image, _SHARPNESS_SIDE)
    return float(cv2.Laplacian(grey, cv2.CV_32F).std() / (grey.std() + 1.0))


def take_frames(
    film: str | os.PathLike,
    out: str | os.PathLike,
    *,
    step: float = 0.05,
    max_frames: int = 150,
    max_size: int = 1920,
) -> FilmFrames:
    """Write the frames of a film that a scene is to be made of.

    What the film shows moves through the picture; its path, added up from frame to frame, is cut
    into equal pieces, and the sharpest frame of each is taken, unless it is blurred as well.
    A camera that stands still gives no frames, a fast one many.

    Args:
        film: Video file.
        out: Folder of the pictures; frames of the same names there are replaced.
        step: Movement between two frames, of the diagonal of the picture; less where the film
            would give fewer than 20. Defaults to 0.05.
        max_frames: Most frames. Defaults to 150.
        max_size: px of the longer side, to which larger frames are reduced. Defaults to 1920.

    Raises:
        SourceError: If the film cannot be read, or shows hardly any movement.
    """
    moved, sharp = _survey(film)
    path = float(moved.sum())
    if len(moved) < 3 or path < step:
        raise SourceError(
            f"{film}: expected a film of a moving camera, got {len(moved)} frames whose content "
            f"moves by {path:.3f} diagonals of the picture: walk around what you film"
        )
    count = min(max(int(path / step), _FEWEST), max_frames, len(moved))
    chosen, blurred = _choose(moved, sharp, count)
    folder, names = Path(out), []
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(open_source(film)):
        if number in chosen:
            names.append(f"{frame.name}.jpg")
            picture = Image.fromarray(frame.image)
            picture.thumbnail((max_size, max_size))
            with atomic_path(folder / names[-1]) as temporary:
                picture.save(temporary, quality=95, subsampling=0)
    found = FilmFrames(folder, names, len(moved), blurred, path)
    print_log(f"{film}: {found}", "current")
    return found


def _reduced(image: np.ndarray, side: int) -> np.ndarray:
    """Grey picture whose longer side has at most so many pixels."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    factor = side / max(grey.shape)
    if factor >= 1:
        return grey
    return cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def _survey(film: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Movement since the frame before (of the diagonal) and sharpness of all frames."""
    moved, sharp, before = [], [], None
    frames: Iterator[Frame] = open_source(film)
    for frame in frames:
        grey = _reduced(frame.image, _MOVEMENT_SIDE)
        moved.append(0.0 if before is None else _movement(before, grey))
        sharp.append(sharpness(frame.image))
        before = grey
    return np.array(moved), np.array(sharp)


def _movement(before: np.ndarray, after: np.ndarray) -> float:
    """Median movement of corners, of the diagonal; a twentieth where they are lost."""
    diagonal = float(np.hypot(*before.shape))
    corners = cv2.goodFeaturesToTrack(before, _CORNERS, 0.01, 5)
    if corners is None or len(corners) < _FEWEST_CORNERS:
        return 0.0  # nothing to see
    found, status, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None)
    kept = status[:, 0] == 1
    if kept.sum() < _FEWEST_CORNERS:
        return 0.05  # a cut, or a fast turn
    length = float(np.median(np.linalg.norm((found - corners)[kept], axis=-1)))
    return 0.0 if length < _STILL else length / diagonal


def _choose(moved: np.ndarray, sharp: np.ndarray, count: int) -> tuple[set[int], list[int]]:
    """Numbers of the sharpest frames of equal pieces of the path; the blurred ones beside."""
    place = np.cumsum(moved)
    piece = np.minimum((place / place[-1] * count).astype(int), count - 1)
    best = [rows[np.argmax(sharp[rows])] for rows in _groups(piece)]
    level = sharp[best]
    usual = [np.median(level[max(i - 5, 0) : i + 6]) for i in range(len(best))]
    blurred = [int(row) for row, own in zip(best, usual) if sharp[row] < BLURRED * own]
    return {int(row) for row in best} - set(blurred), blurred


def _groups(labels: np.ndarray) -> list[np.ndarray]:
    """Rows of each label, in order."""
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]
