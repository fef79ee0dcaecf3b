"""Downloading published weights by name, and taking the name for a checkpoint."""

import pytest
import torch

from mmcity.cli.main import dispatch
from mmcity.engine.checkpointing import CheckpointError, load_checkpoint_weights
from mmcity.utils.cli import UserError
from tests.models.streamvggt.tiny import SIZES, tiny_model
from tests.weights_server import index_in


@pytest.fixture
def published(weights_server, tmp_path, monkeypatch):
    """The state dict of a small model, which the server has as a published file."""
    monkeypatch.setenv("MMCITY_CACHE", str(tmp_path / "cache"))
    config = tmp_path / "tiny.py"
    config.write_text(f"model = dict(type='StreamVGGT', **{SIZES!r})\n")
    state = tiny_model().state_dict()
    torch.save(state, tmp_path / "model.pt")
    weights_server.content = (tmp_path / "model.pt").read_bytes()
    url = f"http://127.0.0.1:{weights_server.server_port}/weights.pth"
    weights_server.entry = {
        "URL": url, "Size": len(weights_server.content), "License": "CC0",
        "Converter": "streamvggt", "Config": str(config), "Fits": ["tiny"],
    }  # fmt: skip
    index_in(tmp_path, monkeypatch, **weights_server.entry)
    return state


def test_weights_are_downloaded_converted_and_found_by_name(
    published, weights_server, tmp_path, capsys
):
    with pytest.raises(UserError, match="town .*CC0.*`mmcity weights get town` downloads it"):
        load_checkpoint_weights("town")
    dispatch(["weights", "get", "town"])
    path = tmp_path / "cache" / "weights" / "town.pth"
    assert str(path) in capsys.readouterr().out
    assert [p.name for p in path.parent.iterdir()] == ["town.pth"]
    assert "state_dict" in torch.load(path, weights_only=True)
    loaded = load_checkpoint_weights("town")
    assert all(torch.equal(loaded[name], value) for name, value in published.items())
    dispatch(["weights", "get", "town"])
    assert len(weights_server.requests) == 1, "what is there is not downloaded again"
    dispatch(["weights", "list"])
    assert f"here: {path}" in capsys.readouterr().out


def test_weights_that_do_not_fit_their_config_are_listed(
    published, weights_server, tmp_path, monkeypatch
):
    short = dict(list(published.items())[1:])
    torch.save(short, tmp_path / "model.pt")
    weights_server.content = (tmp_path / "model.pt").read_bytes()
    index_in(tmp_path, monkeypatch, **{**weights_server.entry, "Size": None})
    with pytest.raises(CheckpointError, match="missing: camera_head.empty_pose_tokens"):
        dispatch(["weights", "get", "town"])
    assert not (tmp_path / "cache" / "weights" / "town.pth").exists()


def test_unknown_name_tells_those_alike(published):
    with pytest.raises(UserError, match="did you mean town"):
        dispatch(["weights", "get", "towm"])
