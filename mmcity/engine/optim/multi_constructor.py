"""Several optimisers for the parts of one model."""

from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from torch import nn

from mmcity.engine.distributed import unwrap
from mmcity.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MultiOptimWrapperConstructor:
    """One optimiser wrapper for each named part of a model.

    Each entry of the config, besides ``constructor``, is named after the wrapper and is a
    wrapper's config; its ``modules`` names the parts (attributes of the model, dots allowed)
    whose parameters it moves. Defaults to the part of the wrapper's own name.

    Example::

        optim_wrapper = dict(
            constructor="MultiOptimWrapperConstructor",
            network=dict(optimizer=dict(type="Adam", lr=1e-4), modules=["network", "objective"]),
            discriminator=dict(optimizer=dict(type="Adam", lr=1e-4, betas=(0.5, 0.999))),
        )

    Raises:
        ValueError: If a part has no parameter, two wrappers share one, or a parameter that
            wants a gradient belongs to none.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        if paramwise_cfg:
            raise ValueError("paramwise_cfg: expected in the single wrappers, got one for all")
        self.cfg = {name: dict(cfg) for name, cfg in dict(optim_wrapper_cfg).items()}

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Build the wrappers for ``model`` (or a model wrapper around it)."""
        module = unwrap(model)
        owner: dict[int, str] = {}
        wrappers = {}
        for name, cfg in self.cfg.items():
            parts = [module.get_submodule(path) for path in cfg.pop("modules", [name])]
            parts = nn.ModuleList(part for part in parts)
            wanted = [p for p in parts.parameters() if p.requires_grad]
            if not wanted:
                raise ValueError(f"optim_wrapper.{name}: expected parameters to move, got none")
            for parameter in wanted:
                if owner.setdefault(id(parameter), name) != name:
                    raise ValueError(
                        f"optim_wrapper.{name}: expected own parameters, got some of "
                        f".{owner[id(parameter)]}"
                    )
            wrappers[name] = build_optim_wrapper(parts, cfg)
        lost = [
            key
            for key, parameter in module.named_parameters()
            if parameter.requires_grad and id(parameter) not in owner
        ]
        if lost:
            raise ValueError(
                f"optimisers: expected to move all, but not {lost[:5]} ({len(lost)} parameters)"
            )
        return OptimWrapperDict(**wrappers)
