"""Modules whose tables take the size that a checkpoint has, and whose numbers stay on the host."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class HostNumbers(nn.Module):
    """A module with numbers that travel in its state dict, but that the host reads.

    Subclasses list their small buffers in ``on_host``. These stay on the CPU, in their
    dtype, when the module moves: reading one off a device would wait for all work on it.
    """

    on_host: tuple[str, ...] = ()

    def _apply(self, fn, recurse: bool = True):
        kept = {name: self._buffers[name] for name in self.on_host}
        super()._apply(fn, recurse)
        self._buffers.update(kept)
        return self


class ResizableModule(HostNumbers):
    """A module with tables of one row per Gaussian, photograph or camera.

    Subclasses list the parameters and buffers whose first dimension may change in
    ``resizable``. The tensor objects stay the same (only ``data`` is exchanged), so that an
    optimiser that holds them goes on working.
    """

    resizable: tuple[str, ...] = ()

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        for name in self.resizable:
            value = state_dict.get(prefix + name)
            own = getattr(self, name)
            if value is None:
                continue
            if value.shape[1:] != own.shape[1:]:
                raise ValueError(
                    f"This checkpoint does not fit the model: '{prefix}{name}' has shape "
                    f"{tuple(value.shape)}, expected (any, {', '.join(map(str, own.shape[1:]))})"
                )
            if isinstance(own, nn.Parameter):
                own.grad = None
            own.data = own.data.new_empty(value.shape)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


@torch.no_grad()
def edit_parameters(
    module: nn.Module,
    names: Iterable[str],
    optimizer: Optimizer,
    edit_value: Callable[[str, Tensor], Tensor],
    edit_state: Callable[[Tensor], Tensor],
) -> None:
    """Change parameters that have one row per element, and the optimiser's moments with them.

    The parameter objects stay; their ``data`` is exchanged and their gradients are dropped.

    Args:
        module: Owner of the parameters.
        names: Attribute names of the parameters.
        optimizer: Optimiser that may hold state of them.
        edit_value: From name and old value to new value.
        edit_state: From an old tensor of the state, of the parameter's shape, to a new one.
    """
    for name in names:
        parameter = getattr(module, name)
        shape = parameter.shape
        state = optimizer.state.get(parameter, {})
        parameter.grad = None
        parameter.data = edit_value(name, parameter.data)
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == shape and value.ndim:
                state[key] = edit_state(value)
