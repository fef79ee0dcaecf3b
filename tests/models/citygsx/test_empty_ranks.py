"""Every process takes part in every exchange, whatever it has to do."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from mmcity.engine.distributed import LostProcessError
from tests.devices import need_devices

from . import empty_ranks_worker as worker
from .test_sharding import relative


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What groups of 1 to 6 processes found; one that waits for ever times out."""
    need_devices(max(worker.PROCESSES))
    out = tmp_path_factory.mktemp("groups")
    command = [sys.executable, "-m", worker.__name__, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return {n: torch.load(out / f"{n}.pt", weights_only=True) for n in worker.PROCESSES}


@pytest.mark.parametrize("processes", worker.PROCESSES[1:])
def test_groups_with_idle_processes_find_what_one_process_finds(results, processes):
    for case in worker.CASES:
        one, many = results[1][case], results[processes][case]
        assert many["gaussians"] == one["gaussians"] > 0, case
        assert sorted(many["losses"]) == sorted(one["losses"]), case
        for name, value in one["losses"].items():
            assert many["losses"][name] == pytest.approx(value, rel=1e-10, abs=1e-14), (case, name)
        for found, wanted in zip(many["gradients"], one["gradients"]):
            assert relative(found, wanted) < 1e-9, case
        for name, wanted in one["networks"].items():
            assert relative(many["networks"][name], wanted) < 1e-9, (case, name)
        torch.testing.assert_close(many["picture"], one["picture"], rtol=0, atol=1e-9)


def test_there_were_idle_processes_and_all_losses(results):
    assert results[6][1, "rows", 60]["ranks_without_rows"] == 5
    assert results[3][1, "views", 60]["ranks_without_rows"] == 2
    assert results[6][4, "rows", 2]["ranks_without_anchors"] > 0
    losses = results[1][6, "rows", 60]["losses"]
    assert sorted(losses) == [
        *("loss_depth", "loss_l1", "loss_multi_view", "loss_normal", "loss_reprojection"),
        *("loss_scale", "loss_ssim"),
    ]
    assert all(losses.values())


WAIT = """
import os, sys, time, torch
from mmengine.logging import MessageHub
from mmcity.engine.distributed import gather_rows, init_cpu_process_group, watch
from mmcity.utils.cli import run_command
watch.PATIENCE = 1.0
init_cpu_process_group("pytorch")
MessageHub.get_instance("waiting").update_info("iter", 7)
def exchange_something():
    gather_rows(torch.zeros(2, 1))
def main():
    exchange_something()
    if os.environ["RANK"] == "1":
        print("idle", flush=True)
        time.sleep(300)
    exchange_something()
run_command(main)
"""


def test_a_process_says_what_it_waits_for_and_that_another_was_killed(tmp_path):
    env = {**os.environ, "WORLD_SIZE": "3", "MASTER_PORT": str(20000 + os.getpid() % 20000)}
    group = []
    for rank in "012":
        logs = {"stdout": open(tmp_path / f"out{rank}", "w"), "stderr": subprocess.STDOUT}
        ranks = {"RANK": rank, "LOCAL_RANK": rank}
        group.append(subprocess.Popen([sys.executable, "-c", WAIT], env=env | ranks, **logs))
    texts = [tmp_path / f"out{rank}" for rank in "012"]
    deadline = time.monotonic() + 120
    while not all("has waited" in texts[rank].read_text() for rank in (0, 2)):
        assert time.monotonic() < deadline, [text.read_text() for text in texts]
        time.sleep(0.5)
    group[1].send_signal(signal.SIGKILL)
    assert [process.wait(60) for process in group] == [1, -signal.SIGKILL, 1]
    for rank in (0, 2):
        text = texts[rank].read_text()
        where = f"rank {rank}, step 7, all_gather of exchange_something: "
        assert where + "has waited" in text and "Traceback" not in text
        last = text.strip().splitlines()[-1]
        assert last.startswith(f"error: {LostProcessError.__name__}: {where}expected all")
        assert "another one has ended or hangs" in last
