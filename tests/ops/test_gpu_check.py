"""The script that checks everything on a GPU: what can be said of it without one."""

import re
import subprocess
from pathlib import Path

import pytest
import torch

REPO = Path(__file__).resolve().parents[2]
SCRIPT = REPO / "tools" / "gpu_check.sh"


def run(tmp_path, *args):
    return subprocess.run(
        ["bash", str(SCRIPT), *args], capture_output=True, text=True, env=environment(tmp_path)
    )


def environment(tmp_path):
    import os
    import sys

    return dict(os.environ, OUT=str(tmp_path / "out"), PYTHON=sys.executable)


def test_the_limits_add_up_to_less_than_ten_minutes_and_name_existing_files(tmp_path):
    done = run(tmp_path, "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    steps = re.findall(r"^(\w+) +(\d+) s  (.+)$", done.stdout, re.MULTILINE)
    total = sum(int(limit) for _, limit, _ in steps)
    assert 0 < total <= 600 and f"limits add up to {total} s" in done.stdout
    for _, _, command in steps:
        for path in re.findall(r"(?:tools|tests|configs)/[\w/]+\.py", command):
            assert (REPO / path).exists(), command
    systems = {path.parent.name for path in REPO.glob("configs/*/*_toytown_cpu.py")}
    trained = {
        re.search(r"configs/(\w+)/", command)[1] for name, _, command in steps if "train_" in name
    }
    assert trained == systems


def test_systems_are_those_of_the_rig(tmp_path):
    """Both ways run the tests that the virtual device runs."""
    done = run(tmp_path, "--systems", "--dry-run")
    assert done.returncode == 0 and re.search(
        r"^systems .*pytest -q tests/rig/systems$", done.stdout, re.M
    )
    done = run(tmp_path, "--virtual", "--dry-run")
    for test in ("tests/ops/test_cuda_parity.py", "tests/parity/test_ops.py"):
        assert test in done.stdout and (REPO / test).exists()
    assert "compute-sanitizer" not in done.stdout


def test_it_explains_itself_and_refuses_unknown_arguments(tmp_path):
    assert "--dry-run" in run(tmp_path, "--help").stdout
    done = run(tmp_path, "--fast")
    assert done.returncode == 2 and "--fast" in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would run")
def test_it_says_so_where_there_is_no_gpu(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 1 and "torch sees no CUDA device" in done.stderr
