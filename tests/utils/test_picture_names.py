"""Names of pictures from Windows, macOS and sub-folders."""

import unicodedata
from pathlib import Path

import pytest

from mmcity.utils.picture_names import (
    check_unique,
    find_companion,
    find_picture,
    match_names,
    natural_order,
    output_names,
    picture_name,
)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("cam0\\0001.png", "cam0/0001.png"),
        ("./images//a b.png", "images/a b.png"),
        (unicodedata.normalize("NFD", "Küche.png"), "Küche.png"),
        ("/data/a.png", "/data/a.png"),
    ],
)
def test_one_picture_has_one_name(given, name):
    assert picture_name(given) == unicodedata.normalize("NFC", name)


def test_a_picture_is_found_below_its_whole_name_first(tmp_path):
    for name in ("0001.png", "cam1/0001.png", unicodedata.normalize("NFD", "Küche.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    assert find_picture(tmp_path, "cam1\\0001.png") == tmp_path / "cam1/0001.png"
    assert find_picture(tmp_path, "cam0/0001.png") == tmp_path / "0001.png"
    assert find_picture(tmp_path, "Küche.png").is_file()
    assert find_picture(tmp_path, "other.png") == tmp_path / "other.png"


def test_companions_follow_the_folders_of_pictures(tmp_path):
    for name in ("cam0/1.png", "cam1/1.jpg.png", "frame-1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    assert find_companion(tmp_path, "cam0/1.jpg") == tmp_path / "cam0/1.png"
    assert find_companion(tmp_path, "cam1/1.jpg") == tmp_path / "cam1/1.jpg.png"
    assert find_companion(tmp_path, "frame-1.color.png") == tmp_path / "frame-1.png"
    assert find_companion(tmp_path, "cam2/2.jpg") is None


def test_two_pictures_do_not_share_a_file():
    check_unique({"a.jpg": Path("a.png"), "b.jpg": None, "c.jpg": None}, "the mask")
    with pytest.raises(ValueError, match=r"the mask of one picture, got those of 'l/a' and 'r/a'"):
        check_unique({"l/a": Path("a.png"), "r/a": Path("a.png")}, "the mask")


def test_names_of_lists_mean_one_picture():
    names = ["cam0/1.jpg", "cam1/1.jpg", "2.png", "3.jpg", "3.png"]

    found = match_names(["cam0/1", "images/2.png", "3.png", "2.tif", "gone"], names, "list.txt")

    assert found == {
        "cam0/1": "cam0/1.jpg",
        "images/2.png": "2.png",
        "3.png": "3.png",
        "2.tif": "2.png",
    }
    for entry in ("1.jpg", "1", "3"):
        with pytest.raises(ValueError, match=f"list.txt: expected names .* got '{entry}', which"):
            match_names([entry], names, "list.txt")


def test_frames_are_in_the_order_of_their_numbers():
    files = [Path(f"f/frame_{number}.png") for number in (1, 10, 11, 2)]

    with pytest.warns(UserWarning, match=r"frame_2\.png before frame_10\.png"):
        assert [f.stem for f in natural_order(files)] == [
            "frame_1",
            "frame_2",
            "frame_10",
            "frame_11",
        ]


def test_padded_frames_give_no_warning(recwarn):
    files = [Path(f"f/{number:03d}.png") for number in (10, 9, 100)]

    assert [f.stem for f in natural_order(files)] == ["009", "010", "100"]
    assert not recwarn


def test_outputs_mirror_the_pictures():
    assert output_names(["l/1.jpg", "r\\1.jpg", "2.jpg", "2.png"], ".png") == {
        "l/1.jpg": "l/1.png",
        "r/1.jpg": "r/1.png",
        "2.jpg": "2.jpg.png",
        "2.png": "2.png.png",
    }


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "b/../../a.png", "C:\\a.png"])
def test_names_that_lead_out_of_the_folder_are_refused(name):
    with pytest.raises(ValueError, match="leads out of it"):
        output_names([name], ".png")
