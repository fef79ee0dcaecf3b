"""Queries of a scene: what a localiser file stands for, and cameras of their own."""

import json

import numpy as np
import pytest
from PIL import Image

from mmcity.apis import localize_queries, read_pose_file
from mmcity.apis.localization.queries import read_intrinsics
from mmcity.apis.localization.result import LocalizationResult
from mmcity.structures import Cameras, SceneFrame
from mmcity.utils.cli import UserError
from mmcity.visualization import write_video


@pytest.fixture
def built(monkeypatch):
    """Arguments of the localiser that would be built."""
    calls = []

    def build(**parts):
        calls.append(parts)
        raise InterruptedError

    monkeypatch.setitem(localize_queries.__globals__, "build_localizer", build)
    return calls


def test_a_localizer_file_stands_for_what_is_left_out(built, tmp_path):
    for name in ("scene", "map.ply", "other.ply"):
        (tmp_path / name).touch()
    file = tmp_path / "localizer.json"
    file.write_text(json.dumps({"scene": "scene", "map": "map.ply", "long_side": 480}))
    for given in ({}, {"map": tmp_path / "other.ply", "long_side": 96}):
        with pytest.raises(InterruptedError):
            localize_queries(file, tmp_path / "out", start="mapped", **given)
        parts = built.pop()
        assert parts["scene"] == str(tmp_path / "scene")
        assert parts["map"] == given.get("map", str(tmp_path / "map.ply"))
        assert parts["long_side"] == given.get("long_side", 480)
        assert parts["num_near"] == 0 and parts["num_starts"] == 3


def test_a_map_and_what_the_start_needs_are_asked_for(built, tmp_path):
    with pytest.raises(UserError, match="map: expected"):
        localize_queries(tmp_path, tmp_path)
    with pytest.raises(UserError, match="expected a pose network"):
        localize_queries(tmp_path, tmp_path, map="map.ply", start="regression")
    assert not built


def test_intrinsics_are_read_by_name(tmp_path):
    file = tmp_path / "cameras.txt"
    file.write_text("# comment\na.jpg PINHOLE 40 30 20 21 19.5 14.5\n")
    camera = read_intrinsics(file)["a.jpg"]
    assert np.allclose(camera.K, [[20, 0, 19.5], [0, 21, 14.5], [0, 0, 1]])
    file.write_text("a.jpg PINHOLE 40 30 20 21 x 14.5\n")
    with pytest.raises(ValueError, match="line 1: expected name MODEL"):
        read_intrinsics(file)


# ------------------------------------------------------------------ runs over pictures of a user


class StubLocalizer:
    """Localises every landscape picture at the origin; names what it was asked."""

    def __init__(self):
        self.asked = []
        mapped = type("Mapped", (), {})()
        mapped.scene_extent, mapped.cameras = 1.0, Cameras(np.eye(3)[None], np.eye(4)[None], 8, 6)
        mapped.offset, mapped.file_frame = np.zeros(3), SceneFrame()
        self.mapped = mapped

    def localize(self, image, K, distortion, *, name, exclude, start):
        self.asked.append((name, exclude, image.shape[:2], start))
        height, width = image.shape[:2]
        if width < height:
            raise ValueError(f"expected {height}x{width} as of the mapped images")
        camera = Cameras(np.eye(3)[None], np.eye(4)[None], width, height)
        return LocalizationResult(name, camera, "ok", 1.0)


@pytest.fixture
def stub(monkeypatch):
    localizer = StubLocalizer()
    names = localize_queries.__globals__
    monkeypatch.setitem(names, "build_localizer", lambda **parts: localizer)
    return localizer


def run(tmp_path, **options):
    queries = options.pop("queries", tmp_path / "queries")
    return localize_queries(
        tmp_path, tmp_path / "out", map="m.ply", queries=queries, pictures=False, **options
    )


def picture(path, size=(8, 6), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path, **options)


def test_a_query_that_cannot_be_tried_loses_no_other(stub, tmp_path):
    for name in ("a.png", "c.png"):
        picture(tmp_path / "queries" / name)
    picture(tmp_path / "queries/b.png", size=(6, 8))
    (tmp_path / "queries/d.png").write_bytes(b"no picture")

    report = run(tmp_path)

    rows = {row["name"]: row for row in json.loads((tmp_path / "out/results.json").read_text())
            ["queries"]}  # fmt: skip
    assert [row["status"] for row in rows.values()] == ["ok", "failed", "ok", "failed"]
    assert "8x6" in rows["b.png"]["reason"] and "d.png" in rows["d.png"]["reason"]
    assert sorted(read_pose_file(tmp_path / "out/poses.txt")) == ["a.png", "c.png"]
    with pytest.raises(UserError, match="2 of 4 queries failed, the others are done: b.png"):
        report.failures.check()


def test_queries_are_told_apart_by_their_folders(stub, tmp_path):
    names = ["IMG 0005 (2).png", "left/1.png", "right/1.png"]
    for name in names:
        picture(tmp_path / "queries" / name)
    for name in (".DS_Store", "._x.png", "notes.txt"):
        (tmp_path / "queries" / name).write_bytes(b"x")

    run(tmp_path)
    run(tmp_path, poses=tmp_path / "out/poses.txt")

    assert [name for name, *_ in stub.asked] == names * 2
    # Pictures that are called like mapped ones may start from these.
    assert all(exclude is None for _, exclude, *_ in stub.asked)
    assert all(start is not None for *_, start in stub.asked[3:])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.png nan 0 0 0 1 2 3", "line 2: expected name qw"),
        ("a.png 1 0 0 0 inf 2 3", "line 2: expected name qw"),
        ("a.png 0 0 0 0 1 2 3", "line 2: expected name qw"),
        ("l\\a.png 1 0 0 0 1 2 3", "several for 'l/a.png'"),
    ],
)
def test_first_poses_are_rigid_and_one_for_each_picture(tmp_path, line, message):
    (tmp_path / "poses.txt").write_text(f"l/a.png 1 0 0 0 1 2 3\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_pose_file(tmp_path / "poses.txt")


def test_two_cameras_of_one_picture_are_refused(tmp_path):
    line = "a.jpg SIMPLE_PINHOLE 64 48 50 32 24\n"
    (tmp_path / "cameras.txt").write_text(line + line.replace("50", "60"))
    with pytest.raises(ValueError, match="cameras.txt: .* several for 'a.jpg'"):
        read_intrinsics(tmp_path / "cameras.txt")


def test_intrinsics_of_names_with_blanks_and_pictures_held_upright(stub, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "queries/a 1.jpg", size=(6, 8), exif=exif)
    (tmp_path / "cameras.txt").write_bytes(
        '\ufeffa 1.jpg PINHOLE 8 6 5 5 4 3\r\n"b 2.jpg" OPENCV 8 6 5 5 4 3 0.1 0 0 0\r\n'.encode()
    )

    run(tmp_path, intrinsics=tmp_path / "cameras.txt")

    assert stub.asked[0][2] == (6, 8)
    assert sorted(read_intrinsics(tmp_path / "cameras.txt")) == ["a 1.jpg", "b 2.jpg"]


def test_an_empty_folder_is_an_error(stub, tmp_path):
    (tmp_path / "queries").mkdir()
    with pytest.raises(UserError, match="queries: expected pictures"):
        run(tmp_path)
    with pytest.raises(UserError, match="gone: expected a picture or a folder"):
        run(tmp_path, queries=tmp_path / "gone")


def test_frames_of_a_film_are_queries(stub, tmp_path):
    wide = np.random.default_rng(0).integers(0, 256, (64, 240, 3), np.uint8)
    frames = [wide[:, 2 * number : 2 * number + 96] for number in range(30)]
    write_video(tmp_path / "walk.mp4", np.repeat(np.repeat(frames, 2, 1), 2, 2))
    run(tmp_path, queries=tmp_path / "walk.mp4")
    written = sorted(file.name for file in (tmp_path / "out" / "frames").iterdir())
    assert len(written) > 10
    assert sorted(read_pose_file(tmp_path / "out/poses.txt")) == written


def test_an_interrupted_run_keeps_what_it_found(stub, tmp_path):
    for name in ("a.png", "b.png"):
        picture(tmp_path / "queries" / name)
    found = stub.localize

    def stop_at_b(*args, name, **options):
        if name == "b.png":
            raise KeyboardInterrupt
        return found(*args, name=name, **options)

    stub.localize = stop_at_b
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert list(read_pose_file(tmp_path / "out/poses.txt")) == ["a.png"]
