"""Training and testing on two CPU processes."""

import json
import socket

import pytest
import torch

from mmcity.utils.cli import UserError
from tests.devices import need_devices

from .conftest import REPO, TOY_CONFIG


@pytest.fixture
def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.ci_slow
@pytest.mark.parametrize("grows", [False, True], ids=["ddp", "growing"])
def test_two_processes_train_resume_and_test(run_command, tmp_path, free_port, grows):
    need_devices(2)
    env = {"PORT": free_port}
    # A growing scene needs the wrapper for it; others take DistributedDataParallel.
    options = ["sync_bn=torch"]
    if grows:
        options.append("model_wrapper_cfg.type=mmcity.ReplicatedScene")
    else:
        options.append("default_hooks.growth.interval=1000")
    train = [REPO / "tools/dist_train.sh", TOY_CONFIG, 2, "--work-dir"]
    run_command(*train, tmp_path / "one", "--cfg-options", *options, env=env)
    stop = run_command(
        *train, tmp_path / "two", "--cfg-options", *options, "default_hooks.stop.at=14",
        env=env, check=False,
    )  # fmt: skip
    assert stop.returncode != 0
    run_command(*train, tmp_path / "two", "--resume", "auto", "--cfg-options", *options, env=env)

    def trace(work_dir, rank) -> dict:
        lines = (work_dir / f"trace_{rank}.jsonl").read_text().splitlines()
        return {record["iter"]: record for record in map(json.loads, lines)}

    for rank in (0, 1):
        assert trace(tmp_path / "two", rank) == trace(tmp_path / "one", rank)
    assert trace(tmp_path / "one", 0)[0]["index"] != trace(tmp_path / "one", 1)[0]["index"]
    checkpoint = torch.load(tmp_path / "one" / "iter_20.pth", weights_only=True)
    assert len(checkpoint["random_states"]) == 2
    assert checkpoint["state_dict"]["slopes"].shape == ((8, 1) if grows else (2, 1))

    run_command(
        REPO / "tools/dist_test.sh", TOY_CONFIG, tmp_path / "one" / "iter_20.pth", 2,
        "--work-dir", tmp_path / "test", "--out", tmp_path / "metrics.json", env=env,
    )  # fmt: skip
    validated = checkpoint["message_hub"]["runtime_info"]["best_score"]
    assert json.loads((tmp_path / "metrics.json").read_text())["toy/error"] == pytest.approx(
        validated
    )


def test_launcher_needs_its_environment(run_tool, monkeypatch, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("with CUDA the Runner starts the processes itself")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="RANK: start with torchrun or tools/dist_train.sh"):
        run_tool("train", TOY_CONFIG, "--work-dir", tmp_path, "--launcher", "pytorch")
