"""Colour maps, sheets, films and camera paths."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmcity.structures import Cameras
from mmcity.structures.geometry import look_at
from mmcity.visualization import (
    colorize_depth,
    colorize_error,
    colorize_normals,
    contact_sheet,
    fly_through,
    to_uint8,
    write_image,
    write_video,
)
from tests.reliability.disks import files_up_to


def test_to_uint8_takes_both_layouts_and_clips():
    image = torch.tensor([-0.5, 0.5, 2.0]).view(3, 1, 1).expand(3, 4, 5)
    expected = np.broadcast_to(np.array([0, 128, 255], np.uint8), (4, 5, 3))
    assert np.array_equal(to_uint8(image), expected)
    assert np.array_equal(to_uint8(image.permute(1, 2, 0)), expected)
    with pytest.raises(ValueError, match="got"):
        to_uint8(np.zeros((4, 5)))


def test_near_is_red_far_is_blue_and_holes_are_black():
    depth = np.array([[1.0, 2.0, 10.0, 0.0, np.nan]])
    picture = colorize_depth(depth, limits=(1.0, 10.0)).astype(int)
    assert picture[0, 0, 0] > picture[0, 0, 2]  # red over blue
    assert picture[0, 2, 2] > picture[0, 2, 0]
    assert not picture[0, 3:].any()
    assert not colorize_depth(np.zeros((2, 2))).any()


def test_normals_that_face_the_camera_are_light_blue():
    normals = np.zeros((3, 2, 2))
    normals[2] = -1.0  # against the viewing direction
    normals[:, 0, 0] = 0.0  # nothing there
    picture = colorize_normals(normals)
    assert picture[1, 1].tolist() == [128, 128, 255]
    assert picture[0, 0].tolist() == [0, 0, 0]


def test_error_colours_grow_with_the_error():
    target = np.zeros((3, 1, 4))
    prediction = target.copy()
    prediction[:, 0, 1], prediction[:, 0, 2] = 0.1, 0.3
    picture = colorize_error(prediction, target, maximum=0.2).astype(int)
    assert picture[0, 0, 2] > picture[0, 0, 0]  # none: blue
    assert picture[0, 1, 1] > 150  # half: green
    assert picture[0, 2, 0] > picture[0, 2, 2]  # too much: red


def test_a_sheet_has_all_pictures_in_their_cells():
    red, green = np.zeros((3, 30, 40)), np.zeros((3, 30, 40))
    red[0] = green[1] = 1.0
    sheet = contact_sheet([[red, green], [green]], titles=["a", "b"], captions=["1", "2"],
                          cell_width=80)  # fmt: skip
    height, width, _ = sheet.shape
    assert width == 2 * 80 + 3 * 4
    assert sheet[22 + 30, 4 + 40].tolist() == [255, 0, 0]
    assert sheet[22 + 30, 4 + 80 + 4 + 40].tolist() == [0, 255, 0]
    assert (sheet == 255).all(-1).any()  # paper between


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_films_hold_their_frames(suffix, tmp_path):
    frames = [np.full((33, 49, 3), 25 * i, np.uint8) for i in range(8)]
    path = tmp_path / "films" / f"film.{suffix}"
    assert write_video(path, iter(frames), fps=10) == 8
    if suffix == "gif":
        with Image.open(path) as film:
            assert film.n_frames == 8 and film.size == (49, 33)
        return
    film = cv2.VideoCapture(str(path))
    levels = []
    while (frame := film.read())[0]:
        assert frame[1].shape == (32, 48, 3)  # even sizes
        levels.append(frame[1].mean())
    assert np.allclose(levels, [25 * i for i in range(8)], atol=6)


def test_a_film_that_fails_leaves_nothing_behind(tmp_path):
    def frames():
        yield np.zeros((8, 8, 3), np.uint8)
        raise RuntimeError("the renderer broke")

    with pytest.raises(RuntimeError, match="broke"):
        write_video(tmp_path / "film.gif", frames())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="expected frames"):
        write_video(tmp_path / "film.gif", [])
    with pytest.raises(ValueError, match="mp4 or .gif"):
        write_video(tmp_path / "film.avi", [np.zeros((8, 8, 3))])


@pytest.mark.parametrize("share", [0, 0.3, 0.999])
def test_a_film_on_a_full_disk_is_an_error_that_names_it(tmp_path, share):
    film = tmp_path / "film.mp4"
    frames = [np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8) for i in range(9)]
    write_video(film, frames)
    earlier = film.read_bytes()

    with pytest.raises(OSError, match=r"film\.mp4"), files_up_to(int(share * len(earlier))):
        write_video(film, frames)

    assert list(tmp_path.iterdir()) == [film] and film.read_bytes() == earlier


@pytest.mark.parametrize("is_live", [False, True])
@pytest.mark.parametrize("side", [4, 200])  # OpenCV told of large pictures alone
def test_a_picture_on_a_full_disk_is_an_error_that_names_it(tmp_path, is_live, side):
    picture = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    with pytest.raises(OSError, match=r"a\.png"), files_up_to(30):
        write_image(tmp_path / "a.png", picture, is_live)
    assert list(tmp_path.iterdir()) == []


def test_written_images_read_back(tmp_path):
    image = np.random.default_rng(0).random((3, 6, 7))
    write_image(tmp_path / "a.png", image)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), to_uint8(image))


def test_fly_through_stays_on_the_way_and_looks_where_the_capture_looked():
    count, radius = 24, 5.0
    angle = torch.linspace(0, torch.pi, count)
    eyes = torch.stack([radius * angle.cos(), radius * angle.sin(), torch.zeros(count)], dim=1)
    intrinsics = torch.tensor([[60.0, 0, 32], [0, 60.0, 24], [0, 0, 1]])
    cameras = Cameras(intrinsics, look_at(eyes, torch.zeros(count, 3)), 64, 48)
    path = fly_through(cameras, n_frames=50)
    assert len(path) == 50 and path.one_size() == (64, 48)
    assert torch.allclose(path.centers.norm(dim=1), torch.tensor(radius), atol=0.15)
    pixels, depths = path.project(torch.zeros(1, 3))
    assert (depths > 0).all()
    assert (pixels[:, 0] - torch.tensor([32.0, 24.0])).norm(dim=1).max() < 3
    steps = path.centers.diff(dim=0).norm(dim=1)
    assert steps.max() < 1.5 * steps.median()
