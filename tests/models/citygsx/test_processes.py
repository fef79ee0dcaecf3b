"""The commands of a shared training: any number of processes gives one scene, and reads it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcity.engine.checkpointing import load_from_local, merge_shards
from tests.devices import need_devices

from .test_sharding import matched

REPO = Path(__file__).resolve().parents[3]
CONFIG = "configs/citygsx/citygsx_toytown_cpu.py"


def options_for(tiny_town, steps=4, **more):
    options = {
        "data_root": tiny_town,
        "train_cfg.max_iters": steps,
        "train_dataloader.batch_size": 2,
        "train_dataloader.sampler.batch_size": 2,
        "train_dataloader.sampler.seed": 0,
        "train_dataloader.dataset.resize": None,
        "test_dataloader.dataset.resize": None,
        "train_dataloader.dataset.multi_view_max_dis": 200.0,
        "train_dataloader.dataset.multi_view_min_num": 1,
        "model.resolution_schedule": None,
        "model.objective.single_view_weight_from_iter": 0,
        "model.objective.dpt_loss_from_iter": 0,
        "model.objective.multi_view_weight_from_iter": 0,
        "model.objective.multi_view_interval": 1,
        "model.objective.multi_view_samples": 500,
        "default_hooks.growth.strategy.start": 1,
        "default_hooks.growth.strategy.interval": 4,
        "default_hooks.growth.strategy.success": 0.2,
        "default_hooks.growth.strategy.grad_threshold": 1e-5,
        "val_cfg": None,
        "val_dataloader": None,
        "val_evaluator": None,
        **more,
    }
    return ["--cfg-options", *(f"{key}={value}" for key, value in options.items())]


def start(processes, *command):
    """Run a tool with so many processes."""
    need_devices(processes)
    starter = [sys.executable]
    launcher = []
    if processes > 1:
        starter += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        launcher = ["--launcher", "pytorch"]
    tool, config, *rest = command
    done = subprocess.run(
        [str(part) for part in (*starter, tool, *launcher, config, *rest)],
        cwd=REPO,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-2500:]
    return done.stdout


def train(tiny_town, work_dir, processes, *more, config=CONFIG, **options):
    command = ["tools/train.py", config, "--work-dir", work_dir, *more]
    start(processes, *command, *options_for(tiny_town, **options))
    path = work_dir / f"iter_{options.get('steps', 4)}.pth"
    return merge_shards(load_from_local(path), work_dir)


def tables_of(state):
    """Positions, levels and what else is compared of a scene's anchors."""
    names = ("positions", "levels", "features", "offsets", "log_scales")
    tables = [state[f"anchors.{name}"] for name in names]
    return [table.reshape(len(table), -1).float() for table in tables]


def assert_same_scene(actual, expected):
    """Sums in another order differ in the last bits; Adam divides them by their size, so that
    the few gradients that nearly cancel may step differently."""
    ours, theirs = matched(tables_of(actual), tables_of(expected))
    assert torch.equal(ours[1], theirs[1])
    for a, b in zip(ours, theirs):
        assert torch.isclose(a, b, rtol=1e-3, atol=1e-4).float().mean() > 0.99


def renders(tiny_town, work_dir, out, processes):
    """Test pictures of the checkpoint as this many processes draw them."""
    command = ["tools/test.py", CONFIG, work_dir / "iter_4.pth", "--work-dir", out, "--dump", out]
    keys = options_for(tiny_town)
    keys = [key for key in keys if not key.startswith("val_")]
    start(processes, *command, *keys)
    # Names end with the process; to make shares equal, the sampler draws a view twice.
    by_view = {path.stem.partition("_rank")[0]: path for path in out.rglob("*.npz")}
    files = [by_view[view] for view in sorted(by_view)]
    assert len(files) == 3
    return [dict(np.load(path)) for path in files]


@pytest.fixture(scope="module")
def four(tiny_town, tmp_path_factory):
    """Work folder and merged checkpoint of a training by four processes."""
    work_dir = tmp_path_factory.mktemp("four")
    return work_dir, train(tiny_town, work_dir, 4)


@pytest.mark.slow
@pytest.mark.ci_slow
def test_four_processes_train_the_scene_of_one(tiny_town, four, tmp_path):
    assert_same_scene(four[1]["state_dict"], train(tiny_town, tmp_path, 1)["state_dict"])


@pytest.mark.slow
@pytest.mark.ci_slow
def test_a_checkpoint_of_four_processes_renders_alike_on_one_two_and_three(
    tiny_town, four, tmp_path
):
    work_dir, _ = four
    assert len(list(work_dir.glob("iter_4.shard?of4.pth"))) == 4
    expected = renders(tiny_town, work_dir, tmp_path / "1", 1)
    for processes in (2, 3):
        actual = renders(tiny_town, work_dir, tmp_path / str(processes), processes)
        for ours, theirs in zip(actual, expected):
            assert ours.keys() == theirs.keys()
            for name, value in theirs.items():
                if value.dtype.kind == "f":
                    np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.ci_slow
def test_two_processes_with_two_whole_scenes_train_the_scene_of_one(tiny_town, tmp_path):
    """The other wrapper: each process holds all anchors and sees one of the two views."""
    whole = {
        # The neighbour is drawn from a generator of each process.
        "train_dataloader.dataset.use_neighbours": False,
    }
    expected = train(tiny_town, tmp_path / "one", 1, **whole)["state_dict"]
    config = tmp_path / "whole_scenes.py"
    config.write_text(
        f"_base_ = [{str(REPO / CONFIG)!r}]\n"
        'model_wrapper_cfg = dict(_delete_=True, type="mmcity.ReplicatedScene")\n'
    )
    split = {
        "train_dataloader.batch_size": 1,
        "train_dataloader.sampler.batch_size": 1,
        "train_dataloader.sampler.shard": True,
    }
    actual = train(tiny_town, tmp_path / "two", 2, config=config, **whole, **split)["state_dict"]
    assert_same_scene(actual, expected)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
@pytest.mark.ci_slow
def test_a_training_goes_on_with_one_process_fewer_when_one_is_killed(tiny_town, tmp_path):
    """Three agents of torchrun with a process each; one is killed, two end the training."""
    steps, endpoint = 120, f"127.0.0.1:{free_port()}"
    work_dir = tmp_path / "elastic"
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2:3"]
    command += ["--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}"]
    command += ["--rdzv-id=town", "--max-restarts=10"]
    # Short waits: how long agents look for others, and how soon a silent one counts as dead.
    command += ["--rdzv-conf=last_call_timeout=5,keep_alive_interval=1,keep_alive_max_attempt=3"]
    command += ["tools/train.py", CONFIG, "--launcher", "pytorch", "--work-dir", work_dir]
    command += ["--resume", "auto"]
    command += options_for(tiny_town, steps, **{"default_hooks.checkpoint.interval": 10})
    # A meeting point of its own per start, or survivors would find the addresses of the dead.
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    agents, logs = [], []
    for number in range(3):
        logs.append((tmp_path / f"agent{number}.log").open("w"))
        agents.append(
            subprocess.Popen(
                [str(part) for part in command],
                cwd=REPO,
                stdout=logs[-1],
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        )
        time.sleep(1)  # the first agent keeps the meeting point
    try:
        deadline = time.monotonic() + 300
        while not (work_dir / "last_checkpoint").is_file():
            assert time.monotonic() < deadline and agents[0].poll() is None
            time.sleep(0.1)
        assert len(list(work_dir.glob("iter_*.shard?of3.pth"))) >= 3
        lost = agents[2].pid
        workers = Path(f"/proc/{lost}/task/{lost}/children").read_text().split()
        os.kill(lost, signal.SIGKILL)  # the agent first, or it would start its worker anew
        for worker in workers:
            os.kill(int(worker), signal.SIGKILL)
        assert [agent.wait(timeout=300) for agent in agents[:2]] == [0, 0]
    finally:
        for agent, log in zip(agents, logs):
            if agent.poll() is None:
                os.killpg(agent.pid, signal.SIGKILL)
            log.close()
    assert len(list(work_dir.glob(f"iter_{steps}.shard?of2.pth"))) == 2
    log = (tmp_path / "agent0.log").read_text() + (tmp_path / "agent1.log").read_text()
    assert "resumed" in log or "resume" in log.lower()
    state = merge_shards(load_from_local(work_dir / f"iter_{steps}.pth"), work_dir)
    assert len(state["state_dict"]["anchors.positions"]) > 500
