"""The stages of a config, each in a process of its own as a user starts it."""

import contextlib
import multiprocessing
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from mmengine.runner import Runner

from mmcity.cli.main import dispatch
from mmcity.utils.setup_env import register_all_modules
from mmcity.utils.torch_files import read_torch

from .cases import Case

#: Steps of a training: killed after two, after three, and at its end.
STEPS = 4
#: Memory of a stage, bytes; seconds that it may take.
MEMORY = int(float(os.environ.get("MMCITY_FULL_SIZE_MEMORY", 20)) * 1e9)
SECONDS = 1500


@contextlib.contextmanager
def _killed(after: int, by_epoch: bool) -> Iterator[None]:
    """End trainings as Ctrl-C does, after so many steps or epochs; 0 lets them run."""
    call_hook, unit = Runner.call_hook, "epoch" if by_epoch else "iter"

    def call(runner: Runner, fn_name: str, **kwargs) -> None:
        call_hook(runner, fn_name, **kwargs)  # the checkpoint is written
        if fn_name == f"after_train_{unit}" and getattr(runner, unit) + 1 == after:
            raise KeyboardInterrupt

    with mock.patch.object(Runner, "call_hook", call):
        yield


@dataclass
class Outcome:
    """Result of a stage.

    Attributes:
        state: ``passed``, ``failed`` or ``left out``.
        reason: Of a failure: the last line of the error.
        seconds: CPU seconds of the process.
        memory: Peak, GB.
    """

    state: str
    reason: str = ""
    seconds: float = 0.0
    memory: float = 0.0


def words_of(case: Case, **more: object) -> list[str]:
    """Options of a command: the settings of a case, and more."""
    pairs = [f"{key}={value}" for key, value in {**case.settings, **more}.items()]
    return ["--random-weights", *(["--cfg-options", *pairs] if pairs else [])]


def train(case: Case, steps: int = STEPS, kill: int = 0, resume: bool = False) -> None:
    """Run ``mmcity train``, up to a kill."""
    words = ["train", str(case.path), "--work-dir", "work"]
    more: dict[str, object] = {"default_hooks.checkpoint.interval": 1}
    if case.by_epoch:
        steps -= 1  # epochs: one, one more, and one with validation
        more |= {"train_cfg.max_epochs": steps, "train_cfg.val_begin": steps}
        kill -= kill > 0
    elif "max_iters" in case.cfg.train_cfg:
        words += ["--max-iters", str(steps)]
    else:
        more |= {"train_cfg.max_epochs": None, "train_cfg.max_iters": steps}
    if resume:
        words.append("--resume")
    try:
        with _killed(kill, case.by_epoch):
            dispatch([*words, *words_of(case, **more)])
    except KeyboardInterrupt:
        if not kill:
            raise
    else:
        assert not kill, f"expected a training of more than {kill} steps"
    path = checkpoint_in(Path("work"))
    weights = read_torch(path)["state_dict"]
    bad = [key for key, v in weights.items() if v.is_floating_point() and not v.isfinite().all()]
    assert not bad, f"{path.name}: expected finite weights, got others in {bad[:3]}"
    done = path.name
    expected = f"epoch_{kill or steps}" if case.by_epoch else f"iter_{kill or steps}"
    assert done.startswith(expected), f"expected checkpoint {expected}, got {done}"


def checkpoint_in(work_dir: Path) -> Path:
    """The last checkpoint of a training."""
    return work_dir / Path((work_dir / "last_checkpoint").read_text().strip()).name


def build(case: Case) -> None:
    """Build the networks at full size without memory for them, and run a step (dry run)."""
    from mmcity.engine.dry_run import dry_run

    print(dry_run(case.path))


def test(case: Case) -> None:
    """Run ``mmcity test``."""
    words = ["test", str(case.path)]
    if case.trains:
        words.append(str(checkpoint_in(Path("work"))))
    dispatch([*words, "--work-dir", "work_test", "--out", "metrics.json", *words_of(case)])
    assert Path("metrics.json").stat().st_size > 2, "expected metrics, got none"


STAGES: dict[str, Callable[[Case], None]] = {
    "build": build,
    "train": lambda case: train(case, kill=2),
    "resume": lambda case: train(case, kill=3, resume=True),
    "validate": lambda case: train(case, resume=True),
    "test": test,
}


def _child(run: Callable[[], None], folder: Path, log: Path, note: Path) -> None:
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    os.chdir(folder)
    if log.stem != "build":  # which reserves memory that it never touches
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    reason, code = "", 0
    try:
        run()
    except SystemExit as error:
        code, reason = (1, f"ended with {error.code}") if error.code else (0, "")
    except BaseException as error:
        traceback.print_exc()
        code, reason = 1, f"{type(error).__name__}: {error}"
    finally:
        used = resource.getrusage(resource.RUSAGE_SELF)
        below = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = sum(u.ru_utime + u.ru_stime for u in (used, below))
        note.write_text(f"{seconds:.1f} {used.ru_maxrss / 1e6:.2f}\n{reason}")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_apart(run: Callable[[], None], folder: Path, name: str) -> Outcome:
    """Run a function in a forked process with a log of its own.

    Args:
        run: What to do.
        folder: Its working directory.
        name: Of the log there.
    """
    register_all_modules()  # once, for all that are forked
    log, note = folder / f"{name}.log", folder / f"{name}.note"
    note.unlink(missing_ok=True)
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=_child, args=(run, folder, log, note))
    began = time.monotonic()
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
        return Outcome("failed", f"took more than {SECONDS} s", time.monotonic() - began)
    if not note.is_file():
        return Outcome("failed", f"killed by signal {-(process.exitcode or 0)}")
    numbers, _, reason = note.read_text().partition("\n")
    seconds, memory = map(float, numbers.split())
    state = "failed" if process.exitcode else "passed"
    return Outcome(state, reason, seconds, memory)
