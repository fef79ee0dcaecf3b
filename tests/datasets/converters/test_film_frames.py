"""Frames that are taken from a film: sharp ones, of a camera that moves."""

import cv2
import numpy as np
import pytest

from mmcity.datasets.converters import sharpness, take_frames
from mmcity.datasets.frame_sources import SourceError
from mmcity.utils.picture_files import read_image
from mmcity.visualization import write_video

#: Movement of the window over the canvas per frame, px; the film stands still in its second third.
STEP, COUNT, SIZE = 4, 60, (240, 180)
BLURRED = set(range(4, 60, 3)) | set(range(50, 56))


def canvas() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = cv2.resize(rng.integers(0, 256, (30, 80, 3), np.uint8), (640, 240))
    fine = cv2.resize(rng.integers(0, 256, (120, 320, 3), np.uint8), (640, 240))
    return (0.6 * coarse + 0.4 * fine).astype(np.uint8)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A window that moves by 4 px a frame, rests for 20 frames, and moves on; blurred in part."""
    wide, frames, x = canvas(), [], 0
    for number in range(COUNT):
        x += 0 if 20 <= number < 40 else STEP
        frame = wide[30 : 30 + SIZE[1], x : x + SIZE[0]]
        frames.append(cv2.blur(frame, (9, 9)) if number in BLURRED else frame)
    path = tmp_path_factory.mktemp("film") / "walk.mp4"
    write_video(path, frames, fps=20)
    return path


def numbers(found) -> list[int]:
    return [int(name.removesuffix(".jpg")) for name in found.names]


def test_sharp_frames_are_taken_where_the_camera_moves(film, tmp_path):
    found = take_frames(film, tmp_path, step=3 * STEP / 300)  # about every third frame
    taken = numbers(found)
    assert found.count == COUNT and found.movement == pytest.approx(40 * STEP / 300, rel=0.1)
    assert not set(taken) & BLURRED
    assert sum(20 <= number < 40 for number in taken) <= 2
    steps = [number - min(max(number - 20, 0), 20) for number in taken if number < 48]
    assert 10 <= len(taken) <= 20 and np.diff(steps).max() <= 6
    # Six blurred frames in a row are longer than a piece: their place is told, not taken.
    assert found.blurred and all(50 <= number < 56 for number in found.blurred)
    assert sorted(file.name for file in tmp_path.iterdir()) == found.names
    assert read_image(tmp_path / found.names[0]).shape == (SIZE[1], SIZE[0], 3)


def test_number_and_size_have_bounds(film, tmp_path):
    found = take_frames(film, tmp_path, step=0.001, max_frames=7, max_size=120)
    assert len(found.names) + len(found.blurred) == 7
    assert read_image(tmp_path / found.names[0]).shape == (90, 120, 3)


def test_a_film_of_nothing_is_refused(tmp_path):
    still = [canvas()[:180, :240]] * 12
    write_video(tmp_path / "still.mp4", still)
    with pytest.raises(SourceError, match=r"still\.mp4: expected a film of a moving camera"):
        take_frames(tmp_path / "still.mp4", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sharpness_does_not_depend_on_contrast():
    picture = canvas()
    assert sharpness(picture // 2) == pytest.approx(sharpness(picture), rel=0.05)
    assert sharpness(cv2.blur(picture, (5, 5))) < 0.5 * sharpness(picture)
