"""One parameter group for all parameters with the same settings."""

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper, OptimWrapperDict
from torch import nn

from mmcity.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(
    name=["MergingOptimWrapperConstructor", "DefaultOptimWrapperConstructor"]
)
class MergingOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, with few groups in place of one per parameter.

    An optimiser makes its launches per group: a thousand groups are a thousand times as many.
    Checkpoints with a group per parameter go on to be resumed, see :func:`merge_saved_groups`.
    """

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = "", **kwargs: Any
    ) -> None:
        """Add the parameters of a module; those of the whole model are merged."""
        super().add_params(params, module, prefix, **kwargs)
        if not prefix:
            settings = [{**self.optimizer_cfg, **group} for group in params]
            params[:] = _merge(params, _members(settings))


def merge_saved_groups(checkpoint: dict, wrapper: OptimWrapper | OptimWrapperDict) -> None:
    """Merge the groups of a checkpoint that has one per parameter, as the optimiser's are.

    Args:
        checkpoint: With ``optimizer`` and perhaps ``param_schedulers``; changed in place.
        wrapper: What is going to be resumed from it.
    """
    states, schedulers = checkpoint["optimizer"], checkpoint.get("param_schedulers", [])
    if not isinstance(wrapper, OptimWrapperDict):
        _merge_saved(states, schedulers, wrapper)
        return
    for name, part in wrapper.items():
        _merge_saved(states.get(name, {}), schedulers[name] if schedulers else [], part)


def _merge_saved(state: dict, schedulers: list[dict], wrapper: OptimWrapper) -> None:
    saved = state.get("param_groups", [])
    members = _members(saved)
    if len(saved) == len(wrapper.optimizer.param_groups) or len(members) == len(saved):
        return  # where numbers differ for another reason, torch tells of it
    state["param_groups"] = _merge(saved, members)
    for scheduler in schedulers:
        for key in ("base_values", "_last_value"):
            values = scheduler[key]  # one per group, perhaps one more of the wrapper
            scheduler[key] = [values[rows[0]] for rows in members] + values[len(saved) :]


def _members(groups: list[dict]) -> list[list[int]]:
    """Numbers of the groups with the same settings, in the order of their first ones."""
    kinds: list[tuple[dict, list[int]]] = []
    for number, group in enumerate(groups):
        settings = {key: value for key, value in group.items() if key != "params"}
        for known, rows in kinds:
            if known == settings:
                rows.append(number)
                break
        else:
            kinds.append((settings, [number]))
    return [rows for _, rows in kinds]


def _merge(groups: list[dict], members: list[list[int]]) -> list[dict]:
    return [
        {**groups[rows[0]], "params": [p for row in rows for p in groups[row]["params"]]}
        for rows in members
    ]
