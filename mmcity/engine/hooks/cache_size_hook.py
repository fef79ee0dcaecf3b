"""Reporting how large the cache of a streaming model gets."""

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmcity.engine.distributed import unwrap
from mmcity.registry import HOOKS


@HOOKS.register_module()
class CacheSizeHook(Hook):
    """Logs the bytes of the cache after each tested sequence, and the largest at the end.

    The model tells them in ``last_cache_nbytes`` (a :class:`StreamVGGT` with
    ``predict_stream``).
    """

    priority = "LOW"

    def __init__(self) -> None:
        self.largest = 0

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Read the model's number."""
        model = unwrap(runner.model)
        if not hasattr(model, "last_cache_nbytes"):
            raise TypeError(
                f"CacheSizeHook: expected a model with a cache, got {type(model).__name__}"
            )
        self.largest = max(self.largest, model.last_cache_nbytes)
        runner.message_hub.update_scalar("test/cache_bytes", model.last_cache_nbytes)

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Log the largest."""
        runner.logger.info(f"largest cache: {self.largest / 2**20:.2f} MiB")
