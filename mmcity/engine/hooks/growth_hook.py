"""Lets a scene grow while it is trained."""

from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook

from mmcity.engine.distributed import unwrap
from mmcity.engine.optim import scale_optimizer_for_batch
from mmcity.registry import HOOKS, STRATEGIES


@HOOKS.register_module(name=["GrowthHook", "DensificationHook", "AnchorGrowthHook"])
class GrowthHook(Hook):
    """Let a strategy grow, move and prune a scene's Gaussians or anchors after each step.

    The scene (:class:`mmcity.models.layers.SceneModel`), or the wrapper that several processes
    hold it in, keeps the views that the strategy looks at and applies it. The strategy's memory
    travels in the checkpoint under ``densification``, so that a resumed run makes the very same
    edits.

    Args:
        strategy: Config of a strategy of the STRATEGIES registry, or None for a fixed set.
        batch_lr_rule: ``sqrt_grendel``, ``linear`` or ``none``, see
            :func:`scale_optimizer_for_batch`. Defaults to None: ``sqrt_grendel`` for scenes
            that count iterations in views, ``none`` for others.
        log_interval: Steps between two log lines on what was done. Defaults to 500.
        means_group: Without effect: the optimiser group of the means is found by itself.
    """

    # After the optimiser's hooks, before logging and checkpointing.
    priority = "NORMAL"

    def __init__(
        self,
        strategy: dict | None,
        batch_lr_rule: str | None = None,
        log_interval: int = 500,
        means_group: str | None = None,
    ) -> None:
        self.strategy = None if strategy is None else STRATEGIES.build(strategy)
        self.batch_lr_rule = batch_lr_rule
        self.log_interval = log_interval
        self._done: dict[str, int] = {}  # counts since the last log line

    def before_run(self, runner) -> None:
        """Adapt the optimiser to the batch, before a checkpoint may restore it."""
        if isinstance(runner._train_loop, dict) or runner._train_loop is None:
            return
        if self.strategy is not None and not hasattr(runner.model, "grow"):
            raise TypeError(
                f"model_wrapper_cfg: expected a wrapper in which scenes can grow, got "
                f"{type(runner.model).__name__}: take dict(type='mmcity.ReplicatedScene')"
            )
        rule = self.batch_lr_rule
        if rule is None:
            rule = "sqrt_grendel" if unwrap(runner.model).counts_views else "none"
        scale_optimizer_for_batch(runner.optim_wrapper.optimizer, self._batch(runner), rule)

    def before_train_iter(self, runner, batch_idx: int, data_batch: Any = None) -> None:
        """Tell the scene the iteration, and what to keep of its views."""
        scene, iteration = unwrap(runner.model), self._iteration(runner)
        scene.iteration.fill_(iteration if scene.counts_views else iteration - 1)
        if self.strategy is not None:
            scene.keeps_statistics = self.strategy.keeps_statistics(iteration)
            scene.absgrad = self.strategy.absgrad

    def after_train_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Edit the scene."""
        model, scene, iteration = runner.model, unwrap(runner.model), self._iteration(runner)
        if self.strategy is not None:
            optimizer = runner.optim_wrapper.optimizer
            done = model.grow(self.strategy, optimizer, iteration, self._batch(runner))
            for name, count in done.items():
                self._done[name] = self._done.get(name, 0) + count
        is_shared = getattr(model, "shares_views", False)
        is_logged = (runner.iter + 1) % self.log_interval == 0
        if not is_logged and (len(scene.table) or is_shared):
            return
        count = model.count_anchors() if is_shared else len(scene.table)
        if count == 0:
            raise RuntimeError(
                f"iteration {iteration}: expected a {scene.element}, got none: the images do not "
                "fit the poses, or the strategy's least opacity / the learning rates are too "
                "high"
            )
        did = ", ".join(f"{number} {name}" for name, number in self._done.items() if number)
        share = f" ({len(scene.table)} of {count} here)" if is_shared else ""
        runner.logger.info(f"{scene.summary}{share}{': ' + did if did else ''}")
        runner.message_hub.update_scalar(f"train/n_{scene.element.lower()}s", count)
        self._done = {}

    def _iteration(self, runner) -> int:
        """Number of this iteration, counted from 1; of its first view where views count."""
        views = self._batch(runner) if unwrap(runner.model).counts_views else 1
        return 1 + runner.iter * views

    @staticmethod
    def _batch(runner) -> int:
        """Views per step of all processes."""
        views = int(runner.train_dataloader.batch_size or 1)
        return views if getattr(runner.model, "shares_views", False) else views * get_world_size()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Put the strategy's memory into the checkpoint."""
        if self.strategy is not None:
            checkpoint["densification"] = self.strategy.state_dict()

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Take it back when resuming."""
        if self.strategy is not None and runner._resume:
            self.strategy.load_state_dict(checkpoint.get("densification", {}))


#: Names of two hooks that have become one; configs may use any of the three.
DensificationHook = AnchorGrowthHook = GrowthHook
