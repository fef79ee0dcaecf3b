"""Published weights of VGGT and StreamVGGT to this toolbox and back."""

import pytest
import torch

from mmcity.cli.main import dispatch
from mmcity.utils import UserError
from tests.cli.conftest import call_tool
from tests.models.streamvggt.tiny import SIZES, tiny_model

TOOL = "tools/model_converters/streamvggt_to_mmcity.py"


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(f"model = dict(type='StreamVGGT', **{SIZES!r})\n")
    return path


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state, "epoch": 3}])
def test_there_and_back(tmp_path, config, capsys, wrap):
    state = tiny_model().state_dict()
    torch.save(wrap({f"module.{name}": value for name, value in state.items()}), tmp_path / "a.pt")
    files = [str(tmp_path / name) for name in ("a.pt", "ours.pth", "again.pt")]
    dispatch(["convert-checkpoint", "streamvggt", *files[:2], "--config", str(config)])
    shown = capsys.readouterr().out
    assert f"{len(state)} entries" in shown
    assert f"{sum(value.numel() for value in state.values()):,} numbers" in shown
    call_tool(TOOL, *files[1:], "--config", config, "--reverse")
    again = torch.load(files[2], weights_only=True)
    assert list(again) == list(state)
    assert all(torch.equal(again[name], state[name]) for name in state)


def test_what_does_not_fit_is_listed(tmp_path, config):
    state = dict(tiny_model().state_dict())
    state["stray"] = torch.zeros(2)
    state["camera_head.embed_pose.bias"] = torch.zeros(3)
    del state["depth_head.norm.bias"]
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"model\.pt: expected .* got 3 others") as error:
        call_tool(TOOL, tmp_path / "model.pt", tmp_path / "x.pth", "--config", config)
    for line in (
        "missing: depth_head.norm.bias (64,)",
        "extra: stray (2,)",
        "shape: camera_head.embed_pose.bias is (3,), expected (64,)",
    ):
        assert line in str(error.value)
    assert not (tmp_path / "x.pth").exists()
