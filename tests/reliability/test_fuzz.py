"""Every reader with mutated files; see fuzz.py for what has to hold."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
#: Mutations per reader.
SHORT, LONG = 60, 10_000


def run_fuzz(folder: Path, number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.fuzz", folder / "work", str(number)],
        cwd=REPO,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count(", 0 wrong") > 40  # readers


def test_some_mutations(tmp_path):
    run_fuzz(tmp_path, SHORT)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_mutations(tmp_path):
    run_fuzz(tmp_path, LONG)
