"""The commands around StreamVGGT, as a user types them."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmcity.structures import Trajectory
from mmcity.utils import UserError
from tests.cli.conftest import call_tool
from tests.models.streamvggt.tiny import SIZES, tiny_model
from tools.model_converters import streamvggt_to_mmcity


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(f"model = dict(type='StreamVGGT', **{SIZES!r})\nstream = dict(image_size=42)\n")
    return path


def test_stream(tmp_path, config, capsys):
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "in" / f"{index}.png")
    out = tmp_path / "out"
    command = f"{tmp_path}/in --out {out} --config {config} --device cpu --policy window(1)"
    call_tool("tools/stream.py", *command.split())
    assert len(Trajectory.read_tum(out / "trajectory.txt")) == 3
    assert (out / "points.ply").stat().st_size > 1000
    assert "weights are random" in capsys.readouterr().out


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


def test_converter_and_back(tmp_path, config, capsys):
    state = tiny_model().state_dict()
    torch.save(state, tmp_path / "model.pt")
    files = [str(tmp_path / name) for name in ("model.pt", "ours.pth", "again.pt")]
    streamvggt_to_mmcity.main([*files[:2], "--config", str(config)])
    assert f"{len(state)} entries" in capsys.readouterr().out
    streamvggt_to_mmcity.main([*files[1:], "--config", str(config), "--reverse"])
    again = torch.load(files[2], weights_only=True)
    assert list(again) == list(state)
    assert all(torch.equal(again[name], state[name]) for name in state)


def test_converter_lists_what_does_not_fit(tmp_path, config):
    state = dict(tiny_model().state_dict())
    state["stray"] = torch.zeros(2)
    state["camera_head.embed_pose.bias"] = torch.zeros(3)
    del state["depth_head.norm.bias"]
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(UserError) as error:
        streamvggt_to_mmcity.main(
            [str(tmp_path / "model.pt"), str(tmp_path / "x.pth"), "--config", str(config)]
        )
    for line in (
        "missing: depth_head.norm.bias (64,)",
        "extra: stray (2,)",
        "shape: camera_head.embed_pose.bias is (3,), expected (64,)",
    ):
        assert line in str(error.value)
    assert not (tmp_path / "x.pth").exists()
