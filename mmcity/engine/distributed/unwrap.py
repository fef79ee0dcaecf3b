"""The model that a wrapper of several processes holds."""

from mmengine.model import is_model_wrapper
from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """The model itself, such as ``unwrap(runner.model)``, in a wrapper or not."""
    return model.module if is_model_wrapper(model) else model
