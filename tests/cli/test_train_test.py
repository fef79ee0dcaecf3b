"""tools/train.py and tools/test.py on a toy project, as a user calls them."""

import itertools
import json
import pickle
import sys
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from mmcity.engine import pilot
from mmcity.engine.checkpointing import CheckpointError
from mmcity.engine.config_check import ConfigError
from mmcity.engine.launch import build_runner, load_config
from mmcity.utils import UserError

from .conftest import REPO, TOY_CONFIG, call_tool


@pytest.fixture
def trained(run_tool, tmp_path):
    """Work directory of a finished toy training."""
    run_tool("train", TOY_CONFIG, "--work-dir", tmp_path / "run")
    return tmp_path / "run"


def losses(work_dir) -> list[str]:
    return [json.loads(x)["loss"] for x in (work_dir / "trace_0.jsonl").read_text().splitlines()]


def test_training_learns_and_keeps_the_last_two_checkpoints(trained):
    values = [float.fromhex(x) for x in losses(trained)]
    assert len(values) == 20
    assert sum(values[-5:]) < sum(values[:5])
    assert {p.name for p in trained.glob("iter_*.pth")} == {"iter_16.pth", "iter_20.pth"}
    assert (trained / "last_checkpoint").read_text() == str(trained / "iter_20.pth")
    assert len(list(trained.glob("best_*.pth"))) == 1
    assert not list(trained.glob(".*tmp*"))  # no halves are left


def test_checkpoint_is_readable_with_weights_only(trained):
    checkpoint = torch.load(trained / "iter_20.pth", weights_only=True)
    assert set(checkpoint) >= {"state_dict", "optimizer", "message_hub", "random_states", "meta"}


def test_resumed_run_equals_the_uninterrupted_one(run_tool, trained, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_tool(
            "train", TOY_CONFIG, "--work-dir", tmp_path / "two", **{"default_hooks.stop.at": 14}
        )
    run_tool("train", TOY_CONFIG, "--work-dir", tmp_path / "two", "--resume")
    until_stop, resumed_at_12 = losses(tmp_path / "two")[:14], losses(tmp_path / "two")[14:]
    assert until_stop + resumed_at_12[2:] == losses(trained)
    assert until_stop[12:] == resumed_at_12[:2]
    one, two = (
        torch.load(run / "iter_20.pth", weights_only=True)["state_dict"]
        for run in (trained, tmp_path / "two")
    )
    assert one["slopes"].shape == (8, 1)  # 2 rows and one more every third iteration
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_intervals_between_validations_may_change(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TOY_CONFIG.parent))
    cfg = load_config(TOY_CONFIG, {"experiment_name": "test_intervals"})
    cfg.work_dir = str(tmp_path)
    cfg.train_cfg.update(val_interval=5, dynamic_intervals=[(11, 2)])
    runner = build_runner(cfg)
    runner.train()
    validations = runner.message_hub.get_scalar("val/toy/error").data[0]
    assert len(validations) == 7  # after 5, 10, 12, 14, .. 20


def test_resume_auto_starts_anew_where_there_is_nothing(run_tool, tmp_path):
    run_tool("train", TOY_CONFIG, "--work-dir", tmp_path / "x", "--resume", "auto",
             **{"train_cfg.max_iters": 2})  # fmt: skip
    assert len(losses(tmp_path / "x")) == 2


def test_resume_follows_a_moved_work_dir(run_tool, trained, tmp_path):
    moved = trained.rename(tmp_path / "moved")
    run_tool("train", TOY_CONFIG, "--work-dir", moved, "--resume", **{"train_cfg.max_iters": 22})
    assert len(losses(moved)) == 22


def test_test_writes_metrics_and_predictions(run_tool, trained, tmp_path):
    checkpoint = trained / "iter_20.pth"
    run_tool("test", TOY_CONFIG, checkpoint, "--work-dir", tmp_path, "--out", tmp_path / "m.json")
    metrics = json.loads((tmp_path / "m.json").read_text())
    run_tool("test", TOY_CONFIG, "-C", checkpoint, "--work-dir", tmp_path,
             "--out", tmp_path / "p.pkl")  # fmt: skip
    errors = [sample["error"] for sample in pickle.loads((tmp_path / "p.pkl").read_bytes())]
    assert len(errors) == 7
    assert metrics["toy/error"] == pytest.approx(sum(errors) / 7)


def test_testing_without_a_checkpoint_wants_to_be_asked_for(run_tool, tmp_path):
    for name in ("streamvggt_1b", "configs/streamvggt/streamvggt_1b.py"):
        with pytest.raises(UserError, match=r"for \S*streamvggt_1b.*get streamvggt_1b.*--random"):
            run_tool("test", name, "none", "--work-dir", tmp_path)


def test_other_configs_without_a_checkpoint_are_warned_of(run_tool, tmp_path):
    run_tool("test", TOY_CONFIG, "none", "--work-dir", tmp_path, "--out", tmp_path / "m.json")
    (log,) = tmp_path.rglob("*.log")
    assert "toy_cpu.py: used without a checkpoint" in log.read_text()
    # y = 0 apart from the small head, so the error is near mean |2 x + 1| over x = 0 .. 6/7
    assert json.loads((tmp_path / "m.json").read_text())["toy/error"] == pytest.approx(
        13 / 7, abs=0.05
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_amp_trains_and_resumes_on_the_cpu(run_tool, tmp_path, dtype):
    options = {"optim_wrapper.dtype": dtype, "train_cfg.max_iters": 8}
    run_tool("train", TOY_CONFIG, "--work-dir", tmp_path / "amp", "--amp", **options)
    options["train_cfg.max_iters"] = 12
    run_tool("train", TOY_CONFIG, "--work-dir", tmp_path / "amp", "--amp", "--resume", **options)
    checkpoint = torch.load(tmp_path / "amp" / "iter_12.pth", weights_only=True)
    assert ("scale" in checkpoint["optimizer"]["loss_scaler"]) == (dtype == "float16")
    assert all(float.fromhex(x) < 100 for x in losses(tmp_path / "amp"))


def test_auto_scale_lr_scales_with_the_batch(run_tool, tmp_path):
    with pytest.raises(ConfigError, match="base_batch_size"):
        run_tool("train", TOY_CONFIG, "--work-dir", tmp_path, "--auto-scale-lr")
    run_tool("train", TOY_CONFIG, "--work-dir", tmp_path, "--auto-scale-lr",
             **{"auto_scale_lr.base_batch_size": 8, "train_cfg.max_iters": 4})  # fmt: skip
    group = torch.load(tmp_path / "iter_4.pth", weights_only=True)["optimizer"]["param_groups"][0]
    assert group["initial_lr"] == pytest.approx(0.05 * 2 / 8)


class TestWrongInput:
    def test_checkpoint_of_another_size(self, run_tool, trained, tmp_path):
        with pytest.raises(CheckpointError, match=r"head.weight \(checkpoint \(1, 3\), model"):
            run_tool("test", TOY_CONFIG, trained / "iter_20.pth", "--work-dir", tmp_path,
                     **{"model.hidden": 5})  # fmt: skip

    def test_checkpoint_of_another_model(self, run_tool, tmp_path):
        torch.save({"state_dict": {"backbone.weight": torch.ones(2)}}, tmp_path / "other.pth")
        with pytest.raises(CheckpointError, match="4 missing .*1 unknown to the model: backbone"):
            run_tool("test", TOY_CONFIG, tmp_path / "other.pth", "--work-dir", tmp_path)

    def test_not_a_checkpoint(self, run_tool, tmp_path):
        with pytest.raises(CheckpointError, match="LICENSE is not a checkpoint"):
            run_tool("test", TOY_CONFIG, REPO / "LICENSE", "--work-dir", tmp_path)

    def test_weights_cannot_be_resumed(self, run_tool, trained, tmp_path):
        best = next(trained.glob("best_*.pth"))
        with pytest.raises(CheckpointError, match="got no optimizer"):
            run_tool("train", TOY_CONFIG, "--work-dir", tmp_path, "--resume", best)

    def test_missing_files_are_named(self, run_tool, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere.pth"):
            run_tool("test", TOY_CONFIG, tmp_path / "nowhere.pth", "--work-dir", tmp_path)
        with pytest.raises(FileNotFoundError, match="nowhere.py"):
            run_tool("train", tmp_path / "nowhere.py", "--work-dir", tmp_path)

    def test_unknown_option(self, run_tool, tmp_path):
        with pytest.raises(ConfigError, match="'optim_wraper' .* did you mean 'optim_wrapper'"):
            run_tool("train", TOY_CONFIG, "--work-dir", tmp_path,
                     **{"optim_wraper.optimizer.lr": 1})  # fmt: skip


def test_errors_are_one_line_without_traceback(run_command, tmp_path):
    done = run_command(sys.executable, REPO / "tools/train.py", tmp_path / "no.py", check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"error: FileNotFoundError: config {tmp_path / 'no.py'}: expected a file, found none"
    )


@pytest.mark.parametrize("name", ["train", "test"])
def test_help_suits_mim(name, run_command):
    """mim reads the help first: it must come without torch, and an option --gpus would make
    mim pass it."""
    done = run_command(sys.executable, "-X", "importtime", REPO / f"tools/{name}.py", "-h")
    assert "--gpus" not in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported and "torch" not in imported


def test_test_refuses_two_checkpoints():
    with pytest.raises(SystemExit):
        call_tool("tools/test.py", "config.py", "a.pth", "-C", "b.pth")


def test_train_for_so_many_minutes_keeps_its_plan(run_tool, tmp_path, monkeypatch):
    # A clock on which each step takes a millisecond, whatever else the machine does.
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(ticks) / 1000)
    monkeypatch.setattr(pilot, "time", clock)
    options = ("train", TOY_CONFIG, "--work-dir", tmp_path)
    for wrong in (["--minutes", 1, "--max-iters", 3], ["--minutes", 0], ["--minutes", 1e-9]):
        with pytest.raises(ConfigError, match="--minutes: expected"):
            run_tool(*options, *wrong)
    run_tool(*options, "--minutes", 0.01)
    plan = json.loads((tmp_path / "schedule.json").read_text())
    assert plan["minutes"] == 0.01 and plan["max_iters"] > 1
    assert (tmp_path / f"iter_{plan['max_iters']}.pth").is_file()
    # A second start goes on with the plan of the first one.
    plan["max_iters"] += 5
    (tmp_path / "schedule.json").write_text(json.dumps(plan))
    run_tool(*options, "--minutes", 0.01, "--resume")
    assert (tmp_path / f"iter_{plan['max_iters']}.pth").is_file()


def test_train_to_another_length_scales_the_schedule(run_tool, tmp_path):
    run_tool("train", TOY_CONFIG, "--work-dir", tmp_path, "--max-iters", 10)
    cfg = Config.fromfile(tmp_path / "toy_cpu.py")
    assert cfg.train_cfg.max_iters == 10 and cfg.default_hooks.checkpoint.interval == 2
    assert (tmp_path / "iter_10.pth").is_file() and not (tmp_path / "iter_20.pth").exists()
