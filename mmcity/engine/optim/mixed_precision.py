"""Mixed precision on any device, the CPU included."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmcity.registry import OPTIM_WRAPPERS
from mmcity.utils.checks import check_choice

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@OPTIM_WRAPPERS.register_module()
class MixedPrecisionOptimWrapper(OptimWrapper):
    """Runs the forward pass under autocast and scales the loss where float16 needs it.

    mmengine's ``AmpOptimWrapper`` refuses to run without an accelerator; this one follows
    the device of the parameters.

    Args:
        dtype: "float16" or "bfloat16". Defaults to "float16" on CUDA and "bfloat16"
            elsewhere.
        loss_scale: "dynamic", a fixed factor, or arguments of ``torch.amp.GradScaler``.
            Used with float16 only. Defaults to "dynamic".
        **kwargs: Arguments of :class:`mmengine.optim.OptimWrapper`.
    """

    def __init__(
        self, dtype: str | None = None, loss_scale: str | float | dict = "dynamic", **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.device_type = self.optimizer.param_groups[0]["params"][0].device.type
        if dtype is None:
            dtype = "float16" if self.device_type == "cuda" else "bfloat16"
        check_choice("dtype", dtype, _DTYPES)
        self.cast_dtype = _DTYPES[dtype]
        self._fixed_scale = None
        if loss_scale == "dynamic":
            options = {}
        elif isinstance(loss_scale, dict):
            options = dict(loss_scale)
        elif isinstance(loss_scale, (int, float)) and loss_scale > 0:
            self._fixed_scale = float(loss_scale)
            options = {"init_scale": self._fixed_scale}
        else:
            raise TypeError(
                f'loss_scale: expected "dynamic", a positive number or a dict, got {loss_scale!r}'
            )
        self.loss_scaler = torch.amp.GradScaler(
            self.device_type, enabled=self.cast_dtype == torch.float16, **options
        )

    def backward(self, loss: torch.Tensor, **kwargs) -> None:
        """Back-propagate the scaled loss."""
        self.loss_scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs) -> None:
        """Unscale, clip if asked to, and step unless a gradient overflowed."""
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update(self._fixed_scale)

    def state_dict(self) -> dict:
        """State of the optimiser and, under ``loss_scaler``, of the scaler."""
        state = super().state_dict()
        state["loss_scaler"] = self.loss_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore what :meth:`state_dict` returned, or the state of a full-precision run."""
        state = dict(state_dict)
        scaler = state.pop("loss_scaler", None)
        if scaler and self.loss_scaler.is_enabled():
            self.loss_scaler.load_state_dict(scaler)
        super().load_state_dict(state)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, inside the gradient accumulation context of the base class."""
        with (
            super().optim_context(model),
            torch.autocast(device_type=self.device_type, dtype=self.cast_dtype),
        ):
            yield
