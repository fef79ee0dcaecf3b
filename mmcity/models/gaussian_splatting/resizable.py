"""Modules whose tables take the size that a checkpoint has."""

from torch import nn

__all__ = ["ResizableModule"]


class ResizableModule(nn.Module):
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
