"""Every command that writes, under faults and kills; see attack.py for what has to hold."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .jobs import JOBS

HERE = Path(__file__).resolve().parent
#: Faults of a kind at most, short and long.
SHORT, LONG = 1, 40


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    target = tmp_path_factory.mktemp("library") / "libfault.so"
    command = ["gcc", "-O2", "-shared", "-fPIC", "-Wno-unused", "-o", target, HERE / "fault.c"]
    subprocess.run([*command, "-ldl"], check=True)
    return target


def attack(library, work, points, names):
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.attack", work, str(points), *names],
        cwd=HERE.parents[1],
        env={**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("0 wrong") == len(names)


def test_some_faults_of_fast_commands(library, tmp_path):
    fast = [name for name, job in JOBS.items() if not job.is_slow]
    attack(library, tmp_path / "work", SHORT, fast)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", JOBS)
def test_all_faults(library, tmp_path, name):
    attack(library, tmp_path / "work", LONG, [name])
