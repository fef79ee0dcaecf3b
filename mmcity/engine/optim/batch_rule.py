"""Scaling of an optimiser's settings with the number of views per step."""

import math

from torch.optim import Optimizer

from mmcity.utils.checks import check_choice

BATCH_RULES = ("none", "sqrt_grendel", "linear")


def scale_optimizer_for_batch(optimizer: Optimizer, batch: int, rule: str) -> None:
    """Adapt Adam to gradients that are means over ``batch`` views.

    ``sqrt_grendel`` (Zhao et al. 2024): rates times sqrt(B), epsilon over sqrt(B), betas to the
    power of B, so that a step moves like B steps of one view each. ``linear``: rates times B.
    ``none`` leaves all as it is.

    Args:
        optimizer: Changed in place; ``initial_lr`` of the groups too.
        batch: Views per step over all processes.
        rule: One of the above.
    """
    check_choice("batch_lr_rule", rule, BATCH_RULES)
    if batch == 1 or rule == "none":
        return
    factor = math.sqrt(batch) if rule == "sqrt_grendel" else float(batch)
    for group in optimizer.param_groups:
        for key in ("lr", "initial_lr"):
            if key in group:
                group[key] *= factor
        if rule == "sqrt_grendel":
            group["eps"] /= factor
            group["betas"] = tuple(beta**batch for beta in group["betas"])
