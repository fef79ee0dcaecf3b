"""Runs of the project's scripts on the virtual device, in processes of their own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

RIG = Path(__file__).resolve().parent
REPO = RIG.parents[1]
TRAIN_STEP = "mmcity.engine.loops.iter_based_train_loop:ResumableIterBasedTrainLoop.run_iter"
LAST_LINES = 40


def environment(devices: int = 1, **settings) -> dict[str, str]:
    """Environment of processes that see the device; README.md lists the settings.

    Args:
        devices: Number of virtual devices. Defaults to 1.
        **settings: ``VIRTUAL_CUDA_<NAME>`` by lower-case name, like ``operators="cpu"``.
    """
    if _has_gpu():
        return dict(os.environ)
    inherited = os.environ.get("PYTHONPATH", "")
    paths = [str(RIG), str(REPO), *([inherited] if inherited else [])]
    named = {f"VIRTUAL_CUDA_{key.upper()}": str(value) for key, value in settings.items()}
    fixed = {"VIRTUAL_CUDA": "1", "VIRTUAL_CUDA_DEVICES": str(devices)}
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **threads, **fixed, **named}
    if named.get("VIRTUAL_CUDA_ASAN", "0") != "0":  # must come first in the process
        find = ["g++", "-print-file-name=libasan.so"], ["g++", "-print-file-name=libstdc++.so"]
        env["LD_PRELOAD"] = " ".join(subprocess.check_output(f, text=True).strip() for f in find)
        env["ASAN_OPTIONS"] = "detect_leaks=0:verify_asan_link_order=0"
    return env


def _has_gpu() -> bool:
    """Whether this process computes on a real GPU."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.version.cuda is not None and torch.cuda.is_available()


def run(*args, devices: int = 1, cwd: Path = REPO, timeout: float = 600, **settings) -> str:
    """Output of ``python ARGS`` on the device; with several devices, one process for each.

    Raises:
        AssertionError: With the last lines, where the process fails.
    """
    if _has_gpu() and sys.modules["torch"].cuda.device_count() < devices:
        pytest.skip(f"needs {devices} GPUs")
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
    command = [sys.executable, *(launcher if devices > 1 else []), *map(str, args)]
    done = subprocess.run(
        command, cwd=cwd, timeout=timeout, env=environment(devices, **settings), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    tail = "\n".join(done.stdout.splitlines()[-LAST_LINES:])
    assert done.returncode == 0, f"{' '.join(command)}\n{tail}"
    return done.stdout


@dataclass
class Steps:
    """What a few training iterations did, per iteration.

    Args:
        steps: Iterations that were recorded.
        waits: Waits of the host.
        lines: Each cause of waits: how often, the operator, the line.
        notes: The same of other events, like copies to pinned memory.
        launches: Operators and how often they ran.
        peaks: Peak memory of each iteration in bytes, what was there before included.
    """

    steps: int
    waits: float
    lines: list
    notes: list
    launches: dict[str, float]
    peaks: list[int]

    def table(self) -> str:
        return "\n".join(f"{n:8.2f}  {what:45s} {where}" for n, what, where in self.lines)


def record_training(config, work_dir, *, skip=2, count=2, **kwargs) -> Steps:
    """Waits, launches and memory of ``count`` training iterations after the first ``skip``.

    One more iteration follows, so that what happens at the end of a training stays outside.

    Args:
        config: File below the repository, or anywhere.
        work_dir: Folder of the outputs.
        skip: Iterations before those that are recorded. Defaults to 2.
        count: Iterations that are recorded. Defaults to 2.
        **kwargs: Of :func:`run`.
    """
    if _has_gpu():
        pytest.skip("needs the virtual device, which counts waits")
    file = Path(work_dir) / "record.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    settings = (f"train_cfg.max_iters={skip + count + 1}", "train_cfg.val_interval=1000000")
    run(
        "-m", "virtual_cuda", "--record", file, "--steps", TRAIN_STEP, "--skip", skip, "--count",
        count, REPO / "tools" / "train.py", REPO / config, "--work-dir", work_dir,
        "--cfg-options", *settings, **kwargs,
    )  # fmt: skip
    return Steps(**json.loads(file.read_text()))
