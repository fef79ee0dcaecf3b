"""One optimiser group per attribute of the Gaussians."""

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from mmcity.engine.distributed import unwrap
from mmcity.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GaussianOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Build an optimiser whose groups are named after what they hold.

    Each entry of ``paramwise_cfg["groups"]`` is a dict with ``name`` (the end of one or
    more parameter names, such as ``splats.means``, or a prefix that ends with a dot, such as
    ``exposure.``) and the options of the group (``lr``, ``betas``, ...). A group with
    ``times_extent=True`` has a learning rate in units of the scene's extent: the scene
    hook multiplies it once the extent is known.

    Example::

        optim_wrapper = dict(
            constructor="GaussianOptimWrapperConstructor",
            optimizer=dict(type="Adam", lr=1e-3, eps=1e-15, fused=True),
            paramwise_cfg=dict(groups=[
                dict(name="splats.means", lr=1.6e-4, times_extent=True),
                dict(name="splats.sh0", lr=2.5e-3),
            ]),
        )

    Raises:
        ValueError: If a parameter that wants a gradient has no group, or a group has no
            parameter and is not marked ``optional=True``.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapper for ``model`` (or a model wrapper around it)."""
        module = unwrap(model)
        groups = [dict(group) for group in self.paramwise_cfg.get("groups", [])]
        for group in groups:
            group["params"] = []
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            fitting = [group for group in groups if _fits(group["name"], name)]
            if len(fitting) != 1:
                raise ValueError(
                    f"parameter '{name}' fits {len(fitting)} optimiser groups of "
                    f"{[group['name'] for group in groups]}; expected exactly one"
                )
            fitting[0]["params"].append(parameter)
        for group in groups:
            is_optional = group.pop("optional", False)
            if not group["params"] and not is_optional:
                raise ValueError(
                    f"optimiser group '{group['name']}': expected parameters, got none"
                )
        cfg = self.optimizer_cfg.copy()
        cfg["params"] = [group for group in groups if group["params"]]
        wrapper_cfg = self.optim_wrapper_cfg.copy()
        wrapper_cfg.setdefault("type", "OptimWrapper")
        optimizer: torch.optim.Optimizer = OPTIMIZERS.build(cfg)
        return OPTIM_WRAPPERS.build(wrapper_cfg, default_args=dict(optimizer=optimizer))


def _fits(group_name: str, parameter_name: str) -> bool:
    if group_name.endswith("."):
        return parameter_name.startswith(group_name)
    return parameter_name == group_name or parameter_name.endswith("." + group_name)
