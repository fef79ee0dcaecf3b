"""Faults and kills at the n-th write of a command, and what has to hold afterwards.

    LD_PRELOAD=libfault.so python -m tests.reliability.attack WORK POINTS JOB...

Of every fault: status 0 only with the right outputs; else one line and no traceback, and outputs of
an earlier run are whole. Of every fault and kill: the command run again gives what an uninterrupted
one gives, and no leftovers. Prints a table; status 1 if anything else was seen.
"""

import ctypes
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from mmcity.utils.cli import run_command
from mmcity.utils.fileio import is_temporary

from .jobs import JOBS, Job, prepare
from .results import keep_results

MODES = {"EIO": 1, "ENOSPC": 2, "SHORT": 3, "KILL": 4}
_SECONDS = 120
#: Logs and settings with times and paths in them.
_VOLATILE = (".log", ".jsonl", ".py")

library = ctypes.CDLL(None)
library.fault_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int]
library.fault_count.restype = ctypes.c_long


def spawn(function, folder: Path, at: int = -1, mode: int = 0) -> tuple[int, str, int]:
    """Run a function in a child with a fault; its status, what it printed, its calls that write."""
    folder.mkdir(parents=True, exist_ok=True)
    log, counted = folder.with_suffix(".log"), folder.with_suffix(".count")
    counted.unlink(missing_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(_SECONDS)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        status = 0
        library.fault_arm(f"{folder}/".encode(), at, mode)
        try:
            run_command(function)
        except SystemExit as error:
            status = int(error.code or 0)
        except BaseException:
            traceback.print_exc()
            status = 70
        number = library.fault_count()
        library.fault_arm(b"", -1, 0)
        sys.stdout.flush()
        sys.stderr.flush()
        counted.write_text(str(number))
        os._exit(status)
    state = os.waitpid(child, 0)[1]
    calls = int(counted.read_text()) if counted.is_file() else -1
    return os.waitstatus_to_exitcode(state), log.read_text(errors="replace"), calls


def content(path: Path, folder: Path) -> bytes:
    """What a file says, without times, places and the order of an archive."""
    raw = path.read_bytes()
    if path.suffix == ".pth":
        state = torch.load(path, weights_only=True)
        return repr(sorted((k, v.tolist()) for k, v in state["state_dict"].items())).encode()
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return repr([(name, arrays[name].tobytes()) for name in arrays.files]).encode()
    if path.name == "manifest.json":
        stages = json.loads(raw)["stages"]
        rows = {n: (s["status"], s["artefacts"], s["before"]) for n, s in stages.items()}
        return repr(rows).encode()
    return raw.replace(str(folder).encode(), b"FOLDER")


def digest(folder: Path) -> dict[str, str]:
    """Digest by name of the files that readers see."""
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        is_hidden = any(part.startswith(".") or part == "vis_data" for part in parts)
        if path.is_file() and not is_hidden and path.suffix not in _VOLATILE:
            try:
                found["/".join(parts)] = hashlib.sha256(content(path, folder)).hexdigest()
            except Exception as error:  # half a file is what is looked for
                found["/".join(parts)] = f"unreadable: {error!r}"
    return found


def attack(job: Job, inputs, folder: Path, mode: str, at: int, wanted: dict) -> list[str]:
    """Faults in what is left after a fault at one call, and after the run that follows."""
    earlier, wrong = {}, []
    if job.earlier is not None:
        spawn(lambda: job.earlier(inputs, folder), folder)
        earlier = digest(folder)
    status, text, _ = spawn(lambda: job.run(inputs, folder), folder, at, MODES[mode])
    lines = text.strip().splitlines() or [""]
    now = digest(folder)
    differ = [name for name in wanted if now.get(name) != wanted[name]]
    if mode == "KILL":
        if status not in (0, -signal.SIGKILL):
            wrong.append(f"status {status}: {lines[-1][:200]}")
    elif status == 0 and differ:
        wrong.append(f"status 0, but {differ[:2]} differ")
    elif status and ("Traceback" in text or not lines[-1].startswith("error: ")):
        wrong.append(f"no single line: {lines[-1][:200]}")
    lost = [name for name in earlier if now.get(name) not in (earlier[name], wanted.get(name))]
    if lost:
        wrong.append(f"earlier output lost: {lost[:2]}")
    mixed = differ and any(now.get(name) != earlier[name] for name in earlier)
    if mixed and (job.swap == "at once" or job.swap == "together" and mode != "KILL"):
        wrong.append("neither the earlier output nor the new one is whole")
    again, text = 0, ""
    if status or mode == "KILL":
        again, text, _ = spawn(lambda: job.run(inputs, folder), folder)
        now = digest(folder)
    lines = text.strip().splitlines() or [""]
    if again:
        wrong.append(f"run again: status {again}: {lines[-1][:200]}")
    differ = sorted(name for name in {**now, **wanted} if now.get(name) != wanted.get(name))
    if differ:
        wrong.append(f"run again: {differ[:2]} differ")
    left = [path.name for path in folder.rglob("*") if is_temporary(path.name)]
    if left:
        wrong.append(f"run again: leftovers {left[:2]}")
    shutil.rmtree(folder)
    return [f"{mode} at {at}: {what}" for what in wrong]


def attack_job(name: str, inputs, work: Path, points: int) -> tuple[dict[str, int], list[str]]:
    """Number of attacks by mode, and what was wrong."""
    job, folder = JOBS[name], work / name.replace(" ", "")
    reference = folder / "reference"
    if job.earlier is not None:
        spawn(lambda: job.earlier(inputs, reference), reference)
    status, text, calls = spawn(lambda: job.run(inputs, reference), reference)
    wanted = digest(reference)
    if status or not wanted or calls < 1:
        return {}, [f"without a fault: status {status}, {calls} calls: {text[-300:]}"]
    done, wrong = Counter(), []
    for row, mode in enumerate(MODES):
        # A single point is another one for each kind of fault.
        share = [row / (len(MODES) - 1)] if points == 1 else np.linspace(0, 1, min(points, calls))
        for at in sorted({1 + round(s * (calls - 1)) for s in share}):
            wrong += attack(job, inputs, folder / f"{mode}{at}", mode, at, wanted)
            done[mode] += 1
    return done, wrong


def main(work: str, points: str, *names: str) -> None:
    torch.set_num_threads(1)
    root = Path(work).resolve()
    (root / "inputs").mkdir(parents=True)
    inputs = prepare(root / "inputs")
    failed = False
    for name in names:
        done, wrong = attack_job(name, inputs, root, int(points))
        keep_results("faults", name, {**done, "wrong": len(wrong)})
        print(f"{name}: {dict(done)}, {len(wrong)} wrong", *wrong, sep="\n    ", flush=True)
        failed |= bool(wrong)
    sys.exit(int(failed))


if __name__ == "__main__":
    main(*sys.argv[1:])
