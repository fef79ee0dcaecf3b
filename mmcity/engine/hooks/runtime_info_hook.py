"""Log of a training step."""

from typing import Any

from mmengine.hooks import RuntimeInfoHook as _RuntimeInfoHook

from mmcity.registry import HOOKS
from mmcity.utils.progress import report_progress
from mmcity.utils.scalars import read_scalars


@HOOKS.register_module()
class RuntimeInfoHook(_RuntimeInfoHook):
    """As in mmengine, but the losses of a step come from the device with one wait for all.

    The process that has started this one, if any asks, learns how far it is.
    """

    def after_train_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Put the losses into the message hub."""
        outputs = None if outputs is None else read_scalars(outputs)
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if runner.rank == 0:
            report_progress("training step", runner.iter + 1, runner.max_iters)

    def after_test_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Tell how far the test is."""
        if runner.rank == 0:
            report_progress("test view", batch_idx + 1, len(runner.test_dataloader))
