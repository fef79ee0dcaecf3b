"""Drives a densification strategy while a scene is trained."""

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook

from mmcity.engine.distributed import follow_first_rank, unwrap
from mmcity.registry import HOOKS, STRATEGIES

__all__ = ["DensificationHook"]


@HOOKS.register_module()
class DensificationHook(Hook):
    """Let a strategy grow, move and prune the Gaussians after each optimiser step.

    The strategy's memory travels in the checkpoint under ``densification``, so that a
    resumed run makes the very same edits.

    Args:
        strategy: Config of a strategy of the STRATEGIES registry, or None for a fixed set of
            Gaussians.
        means_group: Name of the optimiser group of the means. Defaults to ``splats.means``.
        log_interval: Iterations between two log lines on what was done. Defaults to 500.
    """

    # After the optimiser's hooks, before logging and checkpointing.
    priority = "NORMAL"

    def __init__(
        self,
        strategy: dict | None,
        means_group: str = "splats.means",
        log_interval: int = 500,
    ) -> None:
        self.strategy = None if strategy is None else STRATEGIES.build(strategy)
        self.means_group = means_group
        self.log_interval = log_interval
        self._done: dict[str, int] = {}  # counts since the last log line

    def before_train(self, runner) -> None:
        """Tell the model which gradients to keep."""
        model = unwrap(runner.model)
        if self.strategy is not None:
            model.keeps_meta = self.strategy.uses_gradients
            model.absgrad = self.strategy.absgrad

    def before_train_iter(self, runner, batch_idx: int, data_batch: Any = None) -> None:
        """Tell the model the iteration, on which its schedules depend."""
        unwrap(runner.model).iteration.fill_(runner.iter)

    def after_train_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Edit the scene."""
        model = unwrap(runner.model)
        optimizer = runner.optim_wrapper.optimizer
        iteration = runner.iter + 1
        if self.strategy is not None:
            done = self.strategy.step(
                model.splats,
                optimizer,
                iteration,
                model.take_render_meta(),
                scene_extent=model.scene_extent,
                means_lr=self._means_lr(optimizer),
            )
            for name, count in done.items():
                self._done[name] = self._done.get(name, 0) + count
            self._agree(model, optimizer, edited=any(done.values()))
        if len(model.splats) == 0:
            raise RuntimeError(
                f"iteration {iteration}: no Gaussian is left. The images do not fit the poses, or "
                "prune_opacity / the learning rates are too high"
            )
        if iteration % self.log_interval == 0:
            did = ", ".join(f"{count} {name}" for name, count in self._done.items() if count)
            runner.logger.info(f"{len(model.splats)} Gaussians{': ' + did if did else ''}")
            runner.message_hub.update_scalar("train/n_gaussians", len(model.splats))
            self._done = {}

    def _agree(self, model, optimizer, edited: bool) -> None:
        """Ranks saw other views and would edit differently: all take the edits of rank 0."""
        if get_world_size() == 1:
            return
        device = optimizer.param_groups[0]["params"][0].device
        flag = torch.tensor(int(edited), device=device)
        all_reduce(flag, op="max")
        if flag.item():
            follow_first_rank(model, optimizer, self.strategy)

    def _means_lr(self, optimizer) -> float:
        for group in optimizer.param_groups:
            if group.get("name") == self.means_group:
                return group["lr"]
        raise ValueError(f"the optimiser has no group named '{self.means_group}'")

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Put the strategy's memory into the checkpoint."""
        if self.strategy is not None:
            checkpoint["densification"] = self.strategy.state_dict()

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Take it back when resuming."""
        if self.strategy is None or not runner._resume:
            return
        if "densification" not in checkpoint:
            raise ValueError(
                "cannot resume: the checkpoint holds no state of the densification strategy"
            )
        self.strategy.load_state_dict(checkpoint["densification"])
