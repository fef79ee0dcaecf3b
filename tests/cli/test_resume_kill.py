"""A training killed at any moment continues as if nothing had happened."""

import json
import sys

import pytest
import torch

from .conftest import REPO, TOY_CONFIG


@pytest.mark.slow
@pytest.mark.ci_slow
def test_killed_three_times_resumed_equals_uninterrupted(run_command, tmp_path):
    train = [sys.executable, REPO / "tools/train.py", TOY_CONFIG, "--work-dir"]
    run_command(*train, tmp_path / "one")
    for at in (6, 7, 17):  # before and after a checkpoint, and within the last interval
        done = run_command(
            *train, tmp_path / "two", "--resume", "auto",
            "--cfg-options", f"default_hooks.stop.at={at}", "default_hooks.stop.kill=True",
            check=False,
        )  # fmt: skip
        assert done.returncode == -9, done.stderr
        torch.load((tmp_path / "two" / "last_checkpoint").read_text(), weights_only=True)
    run_command(*train, tmp_path / "two", "--resume", "auto")

    def trace(work_dir) -> dict:
        lines = (work_dir / "trace_0.jsonl").read_text().splitlines()
        return {record["iter"]: record for record in map(json.loads, lines)}

    assert trace(tmp_path / "two") == trace(tmp_path / "one")
    one, two = (
        torch.load(tmp_path / run / "iter_20.pth", weights_only=True) for run in ("one", "two")
    )
    assert all(torch.equal(one["state_dict"][k], two["state_dict"][k]) for k in one["state_dict"])
    history = "train/loss"
    assert torch.equal(
        one["message_hub"]["log_scalars"][history]["history"],
        two["message_hub"]["log_scalars"][history]["history"],
    )
