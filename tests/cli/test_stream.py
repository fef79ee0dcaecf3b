"""The commands around StreamVGGT, as a user types them."""

import cv2
import numpy as np
import pytest
from PIL import Image

from mmcity.engine.checkpointing import weights
from mmcity.structures import Trajectory
from tests.cli.conftest import call_tool
from tests.models.streamvggt.tiny import SIZES


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(f"model = dict(type='StreamVGGT', **{SIZES!r})\nstream = dict(image_size=42)\n")
    return path


def test_stream(tmp_path, config, monkeypatch):
    said = []
    monkeypatch.setattr(weights, "print_log", lambda text, *_: said.append(text))
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "in" / f"{index}.png")
    out = tmp_path / "out"
    command = f"{tmp_path}/in --out {out} --config {config} --device cpu --policy window(1)"
    call_tool("tools/stream.py", *command.split())
    assert len(Trajectory.read_tum(out / "trajectory.txt")) == 3
    assert (out / "points.ply").stat().st_size > 1000
    assert "weights are random" in said[0]


def test_rig_of_two_videos(tmp_path, config, capsys):
    for name in ("left", "right"):
        film = cv2.VideoWriter(
            str(tmp_path / f"{name}.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (60, 40)
        )
        for image in np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), dtype=np.uint8):
            film.write(image)
        film.release()
    command = f"{tmp_path}/left.avi {tmp_path}/right.avi --out {tmp_path}/out --config {config}"
    call_tool("tools/stream.py", *command.split())
    assert "frame 2 of camera 1" in capsys.readouterr().out
    for suffix in ("", "_1"):
        assert len(Trajectory.read_tum(tmp_path / "out" / f"trajectory{suffix}.txt")) == 3
