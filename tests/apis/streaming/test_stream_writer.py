"""A thread writes what a stream gives, without holding it up."""

import threading

import numpy as np
import pytest
from PIL import Image

from mmcity.apis import StreamWriter
from mmcity.apis.streaming import FrameResult
from mmcity.apis.streaming.stream_writer import MAX_PENDING
from mmcity.datasets.io.point_ply import read_point_ply
from mmcity.visualization import colorize_depth
from tests.reliability.disks import files_up_to


def frame(index, height=6, width=8):
    rng = np.random.default_rng(index)
    depth = (1 + rng.random((height, width))).astype(np.float32)
    return FrameResult(
        index=index, name=f"{index:03d}", timestamp=float(index),
        image=rng.integers(30, 200, (height, width, 3), dtype=np.uint8), depth=depth,
        depth_conf=1 + depth, points=rng.random((height, width, 3)).astype(np.float32),
        points_conf=1 + depth, cam_to_world=np.eye(4), K=np.eye(3),
    )  # fmt: skip


def test_points_are_those_with_the_smallest_keys(tmp_path):
    frames = [frame(index) for index in range(9)]
    with StreamWriter(tmp_path, max_points=50, percentile=0.0, save_depth=False) as writer:
        for result in frames:
            writer.write(result)
    rng = np.random.default_rng(0)
    keys = np.concatenate([rng.random(48) for _ in frames]).astype(np.float32)
    points = np.concatenate([result.points.reshape(-1, 3) for result in frames])
    expected = points[np.argsort(keys)[:50]]
    found = read_point_ply(tmp_path / "points.ply").xyz
    np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(expected, axis=0))


def test_depths_lie_in_their_files(tmp_path):
    with StreamWriter(tmp_path) as writer:
        writer.write(frame(0))
    np.testing.assert_array_equal(np.load(tmp_path / "depth" / "000.npy"), frame(0).depth)
    with Image.open(tmp_path / "depth" / "000.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), colorize_depth(frame(0).depth))


def test_the_stream_goes_on_until_too_many_frames_wait(tmp_path, monkeypatch):
    goes_on = threading.Event()
    monkeypatch.setattr(StreamWriter, "_write", lambda self, result: goes_on.wait(30))
    writer = StreamWriter(tmp_path)
    for index in range(MAX_PENDING):
        writer.write(frame(index))
    more = threading.Thread(target=writer.write, args=(frame(MAX_PENDING),))
    more.start()
    more.join(0.2)
    assert more.is_alive()
    goes_on.set()
    more.join(30)
    assert not more.is_alive()
    writer.close()


def test_errors_reach_the_caller_and_the_rest_is_written(tmp_path):
    (tmp_path / "depth").write_text("no folder")
    with pytest.raises(OSError, match="depth"):
        with StreamWriter(tmp_path) as writer:
            writer.write(frame(0))
    assert (tmp_path / "trajectory.txt").is_file()

    writer = StreamWriter(tmp_path)
    writer.write(frame(0))
    with pytest.raises(OSError, match="depth"):
        for index in range(1, 2 * MAX_PENDING):
            writer.write(frame(index))


def test_the_first_error_is_told_not_what_follows_from_it(tmp_path):
    """The end of the stream said that it had no points."""
    with pytest.raises(OSError, match=r"000\.npy"):
        with StreamWriter(tmp_path) as writer, files_up_to(100):
            writer.write(frame(0))
            writer.close()
