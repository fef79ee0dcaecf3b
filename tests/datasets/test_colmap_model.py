"""COLMAP files: round trips, a hand-written file, real captures, broken bytes."""

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmcity.datasets.io.colmap_model import find_colmap_model, read_colmap_model, write_colmap_model
from mmcity.datasets.io.colmap_types import (
    CAMERA_MODELS,
    ColmapCamera,
    ColmapFormatError,
    ColmapImage,
    ColmapModel,
    ColmapPoints,
)
from tests.conftest import real_data_dir

from .scenes import make_model

fast = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
numbers = st.floats(-1e9, 1e9, allow_nan=False, allow_subnormal=False)


def assert_same(a: ColmapModel, b: ColmapModel):
    assert list(a.cameras) == list(b.cameras) and list(a.images) == list(b.images)
    for key, camera in a.cameras.items():
        other = b.cameras[key]
        assert (camera.model, camera.width, camera.height) == (
            other.model,
            other.width,
            other.height,
        )
        np.testing.assert_array_equal(camera.params, other.params)
    for key, image in a.images.items():
        other = b.images[key]
        assert (image.name, image.camera_id) == (other.name, other.camera_id)
        for field in ("qvec", "tvec", "xys", "point3D_ids"):
            np.testing.assert_array_equal(getattr(image, field), getattr(other, field))
    for field in ("ids", "xyz", "rgb", "errors", "track_offsets", "tracks"):
        np.testing.assert_array_equal(getattr(a.points3D, field), getattr(b.points3D, field))


@st.composite
def models(draw):
    kinds = draw(st.lists(st.sampled_from(sorted(CAMERA_MODELS)), min_size=1, max_size=4))
    cameras = {
        7 * key: ColmapCamera(
            7 * key,
            kind,
            draw(st.integers(1, 10**5)),
            draw(st.integers(1, 10**5)),
            [draw(st.floats(0.1, 1e5)) for _ in CAMERA_MODELS[kind].params],
        )
        for key, kind in enumerate(kinds)
    }
    images = {}
    text = st.text("abcXYZ 09._-é漢", min_size=1, max_size=12).map(str.strip).filter(bool)
    for key, name in enumerate(draw(st.lists(text, max_size=4, unique=True))):
        count = draw(st.integers(0, 5))
        images[key] = ColmapImage(
            key,
            [1.0, *draw(st.lists(st.floats(-1, 1), min_size=3, max_size=3))],
            draw(st.lists(numbers, min_size=3, max_size=3)),
            draw(st.sampled_from(sorted(cameras))),
            f"dir/{name}.jpg",
            np.array([[draw(numbers), draw(numbers)] for _ in range(count)]).reshape(-1, 2),
            np.array([draw(st.integers(-1, 2**40)) for _ in range(count)], dtype=np.int64),
        )
    count = draw(st.integers(0, 6))
    lengths = [draw(st.integers(0, 4)) for _ in range(count)]
    points = ColmapPoints.from_arrays(
        np.array([[draw(numbers) for _ in range(3)] for _ in range(count)]).reshape(-1, 3),
        np.array([[draw(st.integers(0, 255)) for _ in range(3)] for _ in range(count)]).reshape(
            -1, 3
        ),
        [draw(st.floats(-1, 100)) for _ in range(count)],
        ids=np.arange(count) * 3 + draw(st.integers(0, 2**50)),
        track_lengths=np.array(lengths, dtype=np.int64),
        tracks=np.arange(2 * sum(lengths)).reshape(-1, 2),
    )
    return ColmapModel(cameras, images, points)


@fast
@given(models(), st.sampled_from([".bin", ".txt"]))
def test_what_is_written_is_read_back_exactly(tmp_path, model, ext):
    folder = tmp_path / ext[1:]
    write_colmap_model(model, folder, ext)
    assert_same(read_colmap_model(folder), model)


def test_text_as_colmap_writes_it(tmp_path):
    (tmp_path / "cameras.txt").write_text(
        "# Camera list with one line of data per camera:\n"
        "#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n"
        "1 SIMPLE_RADIAL 3072 2304 2559.81 1536 1152 -0.0204997\n"
    )
    (tmp_path / "images.txt").write_text(
        "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n"
        "1 0.851773 0.0165051 0.503764 -0.142941 -0.737434 1.02973 3.74354 1 P 118.JPG\n"
        "2362.39 248.498 58396 1784.7 268.254 -1\n"
        "2 0.851773 0.0165051 0.503764 -0.142941 -0.737434 1.02973 3.74354 1 P1180142.JPG\n"
        "\n"
    )
    (tmp_path / "points3D.txt").write_text(
        "58396 1.67241 0.292931 0.609726 115 121 122 1.33927 16 6542 15 7345\n"
    )
    model = read_colmap_model(tmp_path)
    assert model.cameras[1].named_params == {
        "fx": 2559.81,
        "fy": 2559.81,
        "cx": 1536,
        "cy": 1152,
        "k1": -0.0204997,
    }
    assert not model.cameras[1].is_pinhole
    assert model.images[1].name == "P 118.JPG"
    assert model.images[1].xys.tolist() == [[2362.39, 248.498], [1784.7, 268.254]]
    assert model.images[1].point3D_ids.tolist() == [58396, -1]
    assert len(model.images[2].xys) == 0
    assert model.points3D.tracks.tolist() == [[16, 6542], [15, 7345]]
    assert model.points3D.rgb.tolist() == [[115, 121, 122]]


def test_parts_can_be_left_out(tmp_path):
    model = make_model()
    write_colmap_model(model, tmp_path)
    small = read_colmap_model(tmp_path, with_features=False, with_tracks=False)
    assert len(small.images[10].xys) == 0 and len(small.points3D.tracks) == 0
    np.testing.assert_array_equal(small.points3D.xyz, model.points3D.xyz)
    (tmp_path / "points3D.bin").unlink()
    assert len(read_colmap_model(tmp_path, with_points=False).points3D) == 0
    with pytest.raises(FileNotFoundError, match="points3D.bin"):
        read_colmap_model(tmp_path)


def test_points_are_indexed_with_their_tracks():
    points = ColmapPoints.from_arrays(
        np.zeros((3, 3)), track_lengths=[2, 0, 1], tracks=[[1, 10], [2, 20], [3, 30]]
    )
    back = points[np.array([2, 0])]
    assert back.ids.tolist() == [3, 1]
    assert back.track_lengths.tolist() == [1, 2]
    assert back.tracks.tolist() == [[3, 30], [1, 10], [2, 20]]


@pytest.mark.parametrize("place", ["sparse/0", "sparse", "."])
@pytest.mark.parametrize("ext", [".bin", ".txt"])
def test_the_model_is_found_in_a_scene(tmp_path, place, ext):
    write_colmap_model(make_model(), tmp_path / place, ext)
    (tmp_path / place / "rigs.bin").write_bytes(b"newer COLMAP writes this, too")
    assert find_colmap_model(tmp_path) == tmp_path / place
    assert len(read_colmap_model(tmp_path).images) == 6


def test_a_folder_without_model_says_what_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="sparse/0.*sparse_dir.*mmcity reconstruct"):
        find_colmap_model(tmp_path)


@fast
@given(st.data())
def test_mutated_binaries_read_or_give_the_documented_error(tmp_path, data):
    write_colmap_model(make_model(count=2, points=3), tmp_path)
    path = tmp_path / f"{data.draw(st.sampled_from(['cameras', 'images', 'points3D']))}.bin"
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        read_colmap_model(tmp_path)
    except ColmapFormatError as error:
        assert str(tmp_path) in str(error) and "expected" in str(error)


@fast
@given(st.binary(max_size=200), st.sampled_from(["cameras", "images", "points3D"]))
@pytest.mark.parametrize("ext", [".bin", ".txt"])
def test_random_bytes_read_or_give_the_documented_error(tmp_path, ext, raw, part):
    folder = tmp_path / ext[1:]
    write_colmap_model(make_model(count=2, points=3), folder, ext)
    (folder / f"{part}{ext}").write_bytes(raw)
    try:
        read_colmap_model(folder)
    except ColmapFormatError as error:
        assert str(folder) in str(error)


@fast
@given(st.data())
def test_mutated_text_reads_or_gives_the_documented_error(tmp_path, data):
    write_colmap_model(make_model(count=2, points=3), tmp_path, ".txt")
    path = tmp_path / f"{data.draw(st.sampled_from(['cameras', 'images', 'points3D']))}.txt"
    words = path.read_text().split(" ")
    place = data.draw(st.integers(0, len(words) - 1))
    words[place] = data.draw(
        st.sampled_from(["nan", "inf", "-1", "", "x", "1e400", "9" * 30, "\n"])
    )
    path.write_text(" ".join(words))
    try:
        read_colmap_model(tmp_path)
    except ColmapFormatError as error:
        assert str(tmp_path) in str(error)


@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
def test_every_truncation_is_an_error(tmp_path, part):
    write_colmap_model(make_model(count=2, points=2), tmp_path)
    path = tmp_path / f"{part}.bin"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ColmapFormatError, match=part):
            read_colmap_model(tmp_path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ColmapFormatError, match="1 bytes more"):
        read_colmap_model(tmp_path)


def test_a_huge_count_allocates_nothing(tmp_path):
    write_colmap_model(make_model(), tmp_path)
    for part in ("cameras", "images", "points3D"):
        path = tmp_path / f"{part}.bin"
        whole = path.read_bytes()
        path.write_bytes(struct.pack("<Q", 2**62) + whole[8:])
        with pytest.raises(ColmapFormatError, match=f"count of {2**62}"):
            read_colmap_model(tmp_path)
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("qvec", "tvec", "message"),
    [
        ([np.nan, 0, 0, 0], [0, 0, 0], "finite pose"),
        ([1, 0, 0, 0], [np.inf, 0, 0], "finite pose"),
        ([0, 0, 0, 0], [0, 0, 0], "quaternion of length"),
    ],
)
def test_degenerate_poses_are_refused_with_the_file(tmp_path, qvec, tvec, message):
    model = make_model()
    write_colmap_model(model, tmp_path)
    raw = bytearray((tmp_path / "images.bin").read_bytes())
    raw[12 : 12 + 56] = struct.pack("<7d", *qvec, *tvec)  # count (8), image id (4), pose
    (tmp_path / "images.bin").write_bytes(raw)
    with pytest.raises(ColmapFormatError, match=f"images.bin.*{message}"):
        read_colmap_model(tmp_path)


def test_contradictions_are_refused(tmp_path):
    model = make_model()
    model.images[10].camera_id = 99
    with pytest.raises(ValueError, match="expected a camera of .*, got 99"):
        write_colmap_model(model, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="expected two names"):
        write_colmap_model(make_model(names=["a.png", "a.png"]), tmp_path)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "images", "points", "observations", "mean", "median"),
    [
        ("fox", 50, 10321, 65219, 0.62, 0.46),
        ("sceaux_castle", 11, 4042, 20488, 0.28, 0.18),
        ("caliterra_aerial", 57, 15650, 103390, 0.36, 0.29),
        ("redkitchen_reloc", 100, 9366, 64881, 0.80, 0.61),
    ],
)
def test_real_captures_hold_what_their_readme_says(
    tmp_path, name, images, points, observations, mean, median
):
    root = real_data_dir(name)
    model = read_colmap_model(root)
    assert (len(model.images), len(model.points3D)) == (images, points)
    errors = model.reprojection_errors()
    assert len(errors) == len(model.points3D.tracks) == observations
    assert np.mean(errors) == pytest.approx(mean, abs=0.011)
    assert np.median(errors) == pytest.approx(median, abs=0.011)
    write_colmap_model(model, tmp_path)
    for part in ("cameras", "images", "points3D"):
        original = (root / "sparse/0" / f"{part}.bin").read_bytes()
        assert (tmp_path / f"{part}.bin").read_bytes() == original
