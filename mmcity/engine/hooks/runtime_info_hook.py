"""Log of a training step."""

from typing import Any

from mmengine.hooks import RuntimeInfoHook as _RuntimeInfoHook

from mmcity.registry import HOOKS
from mmcity.utils.scalars import read_scalars


@HOOKS.register_module()
class RuntimeInfoHook(_RuntimeInfoHook):
    """As in mmengine, but the losses of a step come from the device with one wait for all."""

    def after_train_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Put the losses into the message hub."""
        outputs = None if outputs is None else read_scalars(outputs)
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
