"""A progress bar for people who watch."""

import sys

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmcity.registry import HOOKS


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Shows a rich progress bar with the loss while training on a terminal.

    Does nothing where the output is not a terminal, so log files stay clean.
    """

    priority = "BELOW_NORMAL"

    def __init__(self) -> None:
        self._progress = None
        self._task = None

    def before_train(self, runner) -> None:
        """Draw the bar."""
        if not (is_main_process() and sys.stdout.isatty()):
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            refresh_per_second=4,
        )
        self._task = self._progress.add_task(
            "train", total=runner.train_loop.max_iters, completed=runner.iter
        )
        self._progress.start()

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Advance it."""
        if self._progress is None:
            return
        losses = runner.message_hub.log_scalars.get("train/loss")  # read once for all that log
        description = "train" if losses is None else f"loss {losses.current():.4f}"
        self._progress.update(self._task, completed=runner.iter + 1, description=description)

    def after_train(self, runner) -> None:
        """Leave the finished bar on the screen."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
