"""Time per stage of a training step or test frame, and peak memory."""

import resource
import sys
from contextlib import ExitStack
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from rich.table import Table

from mmcity.registry import HOOKS
from mmcity.utils.fileio import write_json
from mmcity.utils.tables import log_table
from mmcity.utils.timing import StageTimer


@HOOKS.register_module()
class PerStageTimerHook(Hook):
    """Collects the stages that code marks with ``mmcity.utils.timing.stage('name')``.

    Adds the stages ``data`` (waiting for a batch) and ``step`` (forward, backward and
    update). Logs a line every ``interval`` iterations and writes ``stage_times.json`` to
    the work directory at the end. A test gives a table of the stages per batch instead
    (``frame`` is all from the batch to the prediction, ``metric`` what follows), with their
    shares and the largest memory of the process, and ``test_stage_times.json``.

    Args:
        interval: Iterations between log lines; 0 logs only at the end. Defaults to 0.
        warmup: First iterations that are not counted. Defaults to 3.
        every: Training iterations on CUDA between two that are timed, since each stage that is
            waits for the device. Defaults to 50.
    """

    priority = "VERY_HIGH"

    def __init__(self, interval: int = 0, warmup: int = 3, every: int = 50) -> None:
        self.interval = interval
        self.warmup = warmup
        self.every = every
        self.timer = StageTimer()
        self._active = ExitStack()
        self._iterations = 0
        self._mark = 0.0

    def before_train(self, runner) -> None:
        """Start to listen."""
        self._active.enter_context(self.timer.activate())
        self._begin_iteration()

    def _begin_iteration(self) -> None:
        """Choose whether the coming training iteration is timed."""
        number = self._iterations
        is_free = number < self.warmup or not torch.cuda.is_available()
        self.timer.is_on = is_free or number % self.every == 0
        if self.timer.is_on:
            self._mark = self.timer.now()

    def _end_of(self, name: str) -> None:
        now = self.timer.now()
        self.timer.add(name, now - self._mark)
        self._mark = now

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """A batch has arrived."""
        if self.timer.is_on:
            self._end_of("data")

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """A step is done."""
        if self.timer.is_on:
            self.timer.add("step", self.timer.now() - self._mark)
        self._iterations += 1
        if self._iterations == self.warmup:
            self.timer.seconds.clear()
            self.timer.calls.clear()
        if self.interval and self._iterations % self.interval == 0:
            runner.logger.info(self._line())
        self._begin_iteration()

    def after_val(self, runner) -> None:
        """Validation is no waiting for data."""
        if self.timer.is_on:
            self._mark = self.timer.now()

    def after_train(self, runner) -> None:
        """Write the table."""
        self._active.close()
        runner.logger.info(self._line())
        if is_main_process():
            write_json(Path(runner.work_dir) / "stage_times.json", self.timer.summary(), indent=2)

    def before_test(self, runner) -> None:
        """Start to listen."""
        self.timer.seconds.clear()
        self.timer.calls.clear()
        self._active.enter_context(self.timer.activate())
        self.timer.is_on = True
        self._iterations = 0
        self._mark = self.timer.now()

    def before_test_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """A batch has arrived."""
        self._end_of("data")

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """A batch is predicted and counted."""
        self._end_of("frame")
        self._iterations += 1
        total = runner.test_dataloader
        if self._iterations == self.warmup and hasattr(total, "__len__"):
            # A test as short as the warm-up is timed as a whole.
            if len(total) > self.warmup:
                self.timer.seconds.clear()
                self.timer.calls.clear()

    def after_test(self, runner) -> None:
        """Log and write the table."""
        self._active.close()
        summary = self.timer.summary()
        if "frame" not in summary:
            return
        memory = _peak_memory()
        frame = summary["frame"]["seconds"]
        table = Table("stage", "ms per batch", "share", title="test, without the data's part")
        for name, row in sorted(summary.items(), key=lambda item: -item[1]["seconds"]):
            ms = 1000 * row["seconds"] / summary["frame"]["calls"]
            share = "" if name == "data" else f"{100 * row['seconds'] / frame:.1f} %"
            table.add_row(name, f"{ms:.1f}", share)
        for name, size in memory.items():
            table.add_row(name, f"{size / 2**20:.0f} MiB", "")
        log_table(table, 70)
        if is_main_process():
            write_json(
                Path(runner.work_dir) / "test_stage_times.json",
                {"stages": summary, "memory_bytes": memory},
                indent=2,
            )

    def _line(self) -> str:
        counted = max(self.timer.calls.get("step", 0), 1)
        parts = sorted(self.timer.seconds.items(), key=lambda item: -item[1])
        return "ms per iteration: " + ", ".join(
            f"{name} {1000 * seconds / counted:.1f}" for name, seconds in parts
        )


def _peak_memory() -> dict[str, int]:
    """Largest memory of the process so far in bytes, and of the CUDA device if there is one."""
    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts in KiB
    memory = {"peak memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        memory["peak CUDA memory"] = torch.cuda.max_memory_allocated()
    return memory
