"""Drives the growth of an octree of anchors while a scene is trained."""

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook

from mmcity.engine.distributed import unwrap
from mmcity.engine.optim import scale_optimizer_for_batch
from mmcity.registry import HOOKS, STRATEGIES

__all__ = ["AnchorGrowthHook"]


@HOOKS.register_module()
class AnchorGrowthHook(Hook):
    """Count iterations in views, keep statistics, and let a strategy grow and prune anchors.

    With several processes and the wrapper ``ReplicatedScene`` each sees other views; their
    statistics are summed, so that all make the same edits, and the same as one process with
    the whole batch. With ``ShardedScene`` each edits its own anchors, and they are moved to
    where they belong afterwards.

    Args:
        strategy: Config of the strategy, or None for a fixed set of anchors.
        batch_lr_rule: ``sqrt_grendel``, ``linear`` or ``none``, see
            :func:`scale_optimizer_for_batch`. Defaults to ``sqrt_grendel``.
        log_interval: Steps between two log lines on what was done. Defaults to 500.
    """

    priority = "NORMAL"

    def __init__(
        self,
        strategy: dict | None,
        batch_lr_rule: str = "sqrt_grendel",
        log_interval: int = 500,
    ) -> None:
        self.strategy = None if strategy is None else STRATEGIES.build(strategy)
        self.batch_lr_rule = batch_lr_rule
        self.log_interval = log_interval
        self._done: dict[str, int] = {}

    def before_run(self, runner) -> None:
        """Adapt the optimiser to the batch, before a checkpoint may restore it."""
        if isinstance(runner._train_loop, dict) or runner._train_loop is None:
            return
        scale_optimizer_for_batch(
            runner.optim_wrapper.optimizer, self._batch(runner), self.batch_lr_rule
        )

    def before_train_iter(self, runner, batch_idx: int, data_batch: Any = None) -> None:
        """Tell the model the iteration, on which levels and losses depend."""
        model = unwrap(runner.model)
        iteration = 1 + runner.iter * self._batch(runner)
        model.iteration.fill_(iteration)
        model.keeps_statistics = self.strategy is not None and self.strategy.keeps_statistics(
            iteration
        )

    def after_train_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Record the views of this step and edit the scene."""
        model, wrapper = unwrap(runner.model), runner.model
        is_sharded = getattr(wrapper, "shares_views", False)
        if model.keeps_statistics:
            optimizer = runner.optim_wrapper.optimizer
            if is_sharded:
                model.record_statistics()
            else:
                _record(model)
            done = self.strategy.step(
                model.anchors,
                optimizer,
                int(model.iteration),
                model.centers,
                self._batch(runner),
                wrapper.group if is_sharded else None,
            )
            if done and is_sharded:
                wrapper.settle(optimizer)
            for name, count in done.items():
                self._done[name] = self._done.get(name, 0) + count
        is_logged = (runner.iter + 1) % self.log_interval == 0
        if not is_logged and len(model.anchors):
            return
        count = wrapper.count_anchors() if is_sharded and is_logged else len(model.anchors)
        if count == 0 and not (is_sharded and not is_logged):
            raise RuntimeError(
                f"iteration {int(model.iteration)}: no anchor is left. The images do not fit the "
                "poses, or min_opacity / the learning rates are too high"
            )
        if is_logged:
            did = ", ".join(f"{number} {name}" for name, number in self._done.items() if number)
            share = f" ({len(model.anchors)} of {count} here)" if is_sharded else ""
            runner.logger.info(f"{model.summary}{share}{': ' + did if did else ''}")
            runner.message_hub.update_scalar("train/n_anchors", count)
            self._done = {}

    @staticmethod
    def _batch(runner) -> int:
        """Views per step of all processes."""
        views = int(runner.train_dataloader.batch_size or 1)
        return views if getattr(runner.model, "shares_views", False) else views * get_world_size()


def _record(model) -> None:
    if get_world_size() == 1:
        model.record_statistics()
        return
    names = ("opacity_sum", "view_count", "gradient_sum", "gradient_count")
    buffers = [getattr(model.anchors, name) for name in names]
    before = [buffer.clone() for buffer in buffers]
    model.record_statistics()
    for buffer, old in zip(buffers, before):
        added = buffer - old
        all_reduce(added)
        torch.add(old, added, out=buffer)
