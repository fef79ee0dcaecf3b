"""Learning rates that fall exponentially between two given values."""

import math

from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from mmcity.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class ExponentialDecayLR(_ParamScheduler):
    """``lr(t) = lr_0 * final_ratio^(t / end)`` for the named groups.

    A closed form of the group's ``initial_lr``, so that a rate that was multiplied by the
    scene's extent after the scheduler was built stays right. Optionally the rate starts
    ``delay_ratio`` times lower and rises along a quarter sine during ``delay`` iterations.

    Args:
        optimizer: Optimiser or wrapper.
        final_ratio: Rate at ``end`` over the initial rate. Defaults to 0.01.
        end: Iteration of the final rate.
        groups: Names of the parameter groups. Defaults to None: all of them.
        delay: Length of the start phase. Defaults to 0.
        delay_ratio: Factor at its beginning. Defaults to 1.0.
        begin: First iteration counted as t = 0. Defaults to 0.
        optional: Accept that a named group does not exist, since what it belongs to is
            switched off. Defaults to False.
        by_epoch: Must be False.
        verbose: Whether to print the rate at each step. Defaults to False.
    """

    def __init__(
        self,
        optimizer,
        final_ratio: float = 0.01,
        end: int = 30000,
        groups: list[str] | None = None,
        delay: int = 0,
        delay_ratio: float = 1.0,
        begin: int = 0,
        optional: bool = False,
        by_epoch: bool = False,
        verbose: bool = False,
    ) -> None:
        if by_epoch:
            raise ValueError("by_epoch: expected False for ExponentialDecayLR, got True")
        if not 0 < final_ratio:
            raise ValueError(f"final_ratio: expected a positive number, got {final_ratio}")
        names = [group.get("name") for group in optimizer.param_groups]
        unknown = set(groups or []) - set(names)
        if unknown and not optional:
            raise ValueError(f"parameter groups: expected some of {names}, got {sorted(unknown)}")
        self.final_ratio = final_ratio
        self.decay_length = end - begin
        self.groups = groups
        self.delay = delay
        self.delay_ratio = delay_ratio
        super().__init__(optimizer, "lr", begin=begin, by_epoch=False, verbose=verbose)

    def factor(self, step: int) -> float:
        """Rate over initial rate after ``step`` iterations."""
        share = min(max(step / self.decay_length, 0.0), 1.0)
        value = math.exp(share * math.log(self.final_ratio))
        if self.delay and step < self.delay:
            rise = math.sin(0.5 * math.pi * step / self.delay)
            value *= self.delay_ratio + (1 - self.delay_ratio) * rise
        return value

    def _get_value(self) -> list[float]:
        scale = self.factor(self.last_step)
        return [
            group["initial_lr"] * scale
            if self.groups is None or group.get("name") in self.groups
            else group["lr"]
            for group in self.optimizer.param_groups
        ]
