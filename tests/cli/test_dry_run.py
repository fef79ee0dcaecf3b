"""``mmcity dry-run`` and ``mmcity train --estimate``."""

import pytest

from mmcity.cli.main import dispatch, main

CONFIG = "configs/gaussian_splatting/3dgs_toytown_cpu.py"


def test_verb_tells_memory_time_and_disk(capsys):
    dispatch(["dry-run", CONFIG, "--gpu-memory", "8GB", "--scene-size", "5000"])
    out = capsys.readouterr().out
    assert "5,000 Gaussians, 1 GPU" in out
    assert "fits on a GPU of 8 GB" in out
    assert "checkpoints of" in out


def test_estimate_of_train_is_an_alias(capsys):
    dispatch(["train", CONFIG, "--estimate", "8GB"])
    assert "fits on a GPU of 8 GB" in capsys.readouterr().out


def test_bad_size_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["mmcity", "dry-run", CONFIG, "--gpu-memory", "much"])
    with pytest.raises(SystemExit):
        main()
    err = capsys.readouterr().err.strip()
    assert err == "error: ConfigError: --gpu-memory: expected a size such as 24GB, got 'much'"
