"""Work that keeps its precision where networks are given less."""

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch


def full_precision(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for geometry: autocast, which rounds pixels to whole ones, is off inside."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            for device in ("cpu", "cuda"):
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return wrapped
