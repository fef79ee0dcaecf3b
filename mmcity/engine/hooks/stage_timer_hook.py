"""Where the time of a training step goes."""

import json
from contextlib import ExitStack
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmcity.registry import HOOKS
from mmcity.utils.fileio import atomic_path
from mmcity.utils.timing import StageTimer

__all__ = ["PerStageTimerHook"]


@HOOKS.register_module()
class PerStageTimerHook(Hook):
    """Collects the stages that code marks with ``mmcity.utils.timing.stage('name')``.

    Adds the stages ``data`` (waiting for a batch) and ``step`` (forward, backward and
    update). Logs a line every ``interval`` iterations and writes ``stage_times.json`` to
    the work directory at the end.

    Args:
        interval: Iterations between log lines; 0 logs only at the end. Defaults to 0.
        warmup: First iterations that are not counted. Defaults to 3.
        synchronize: See :class:`mmcity.utils.timing.StageTimer`. Defaults to True.
    """

    priority = "VERY_HIGH"

    def __init__(self, interval: int = 0, warmup: int = 3, synchronize: bool = True) -> None:
        self.interval = interval
        self.warmup = warmup
        self.timer = StageTimer(synchronize)
        self._active = ExitStack()
        self._iterations = 0
        self._mark = 0.0

    def before_train(self, runner) -> None:
        """Start to listen."""
        self._active.enter_context(self.timer.activate())
        self._mark = self.timer.now()

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """A batch has arrived."""
        now = self.timer.now()
        self.timer.add("data", now - self._mark)
        self._mark = now

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """A step is done."""
        now = self.timer.now()
        self.timer.add("step", now - self._mark)
        self._mark = now
        self._iterations += 1
        if self._iterations == self.warmup:
            self.timer.seconds.clear()
            self.timer.calls.clear()
        if self.interval and self._iterations % self.interval == 0:
            runner.logger.info(self._line())

    def after_val(self, runner) -> None:
        """Validation is no waiting for data."""
        self._mark = self.timer.now()

    def after_train(self, runner) -> None:
        """Write the table."""
        self._active.close()
        runner.logger.info(self._line())
        if is_main_process():
            with atomic_path(Path(runner.work_dir) / "stage_times.json") as path:
                path.write_text(json.dumps(self.timer.summary(), indent=2))

    def _line(self) -> str:
        counted = max(self.timer.calls.get("step", 0), 1)
        parts = sorted(self.timer.seconds.items(), key=lambda item: -item[1])
        return "ms per iteration: " + ", ".join(
            f"{name} {1000 * seconds / counted:.1f}" for name, seconds in parts
        )
