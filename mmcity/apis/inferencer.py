"""Base of all inferencers: config, weights, device, steps, progress."""

import functools
import inspect
import os
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from rich import get_console
from rich.progress import track
from torch import Tensor, nn

from mmcity.engine.checkpointing import (
    load_checkpoint_weights,
    load_weights,
    require_checkpoint,
)
from mmcity.engine.launch import as_config
from mmcity.registry import MODELS
from mmcity.utils.device import device_at_hand
from mmcity.utils.setup_env import register_all_modules


class Inferencer(metaclass=ABCMeta):
    """Runs a trained model on files or arrays of the user.

    An inferencer works in steps, each of which can be called by itself: :meth:`preprocess`
    makes an input of the model, :meth:`forward` runs it, :meth:`postprocess` makes a result
    with documented fields, :meth:`visualize` a picture of a result where there is something to
    see. Calling the inferencer runs them over all inputs, behind a progress bar. Public methods
    of sub-classes refuse keyword arguments that they do not know and list those they do.

    Args:
        config: Path of a config, or the name that ``mmcity list`` prints; a loaded config, whole
            or of the model alone; or a model that is already built.
        checkpoint: Its weights, which must fit exactly: a file, a URL, the name of published
            weights (``mmcity weights list``), or a folder with one checkpoint (of a scene in
            shards: beside its shards). Averaged (EMA) weights are taken where they exist.
            Defaults to None, for a built model and for those without parameters.
        device: Where to compute. Defaults to ``cuda`` where there is one, else ``cpu``.
        show_progress: Show a progress bar where the output is a terminal. Defaults to True.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        CheckpointError: If weights are missing or left over.
        MissingWeightsError: If there is no checkpoint for a config of which weights are published,
            and ``MMCITY_RANDOM_WEIGHTS`` is not set.
    """

    #: Whether :meth:`build_model` gives the model its weights.
    builds_with_weights = False

    def __init__(
        self,
        config: str | os.PathLike | Config | Mapping | nn.Module | None,
        checkpoint: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        show_progress: bool = True,
    ) -> None:
        register_all_modules()
        self.device = torch.device(device_at_hand(device))
        self.show_progress = show_progress
        is_config = config is not None and not isinstance(config, nn.Module)
        self.cfg = as_config(config) if is_config else Config()
        is_bare = is_config and checkpoint is None and not self.builds_with_weights
        name = str(config) if isinstance(config, (str, os.PathLike)) else type(self).__name__
        if is_bare:
            require_checkpoint(name)
        self.model: Any = config if isinstance(config, nn.Module) else self.build_model()
        if checkpoint is not None:
            weights = self.choose_weights(load_checkpoint_weights(checkpoint))
            load_weights(self.model, weights, str(checkpoint))
        elif is_bare and self.model is not None:
            require_checkpoint(name, self.model)
        if self.model is not None:
            self.model.to(self.device).eval()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, method in list(vars(cls).items()):
            if inspect.isfunction(method) and (name in ("__init__", "__call__") or name[0] != "_"):
                setattr(cls, name, _refuse_unknown(method, cls.__name__))

    def build_model(self) -> nn.Module | None:
        """Model of ``self.cfg``, without the checkpoint; None where a task can do without."""
        return MODELS.build(self.cfg.model)

    def choose_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the model out of those of a checkpoint, all of them by default."""
        return weights

    @abstractmethod
    def preprocess(self, *args: Any, **kwargs: Any) -> Any:
        """Make an input of the model."""

    @abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model on an input."""

    @abstractmethod
    def postprocess(self, *args: Any, **kwargs: Any) -> Any:
        """Make a result of the model's output."""

    @abstractmethod
    def visualize(self, *args: Any, **kwargs: Any) -> list[np.ndarray]:
        """Pictures ``(H, W, 3)`` uint8 of a result."""

    def track(
        self, items: Iterable[Any], description: str, total: int | None = None
    ) -> Iterable[Any]:
        """Items, with a progress bar where somebody watches.

        Args:
            items: Any number.
            description: Stands before the bar.
            total: Number of items. Defaults to their length, where they have one.
        """
        if total is None and isinstance(items, Sized):
            total = len(items)
        if not self.show_progress or not get_console().is_terminal or total == 1:
            return items
        return track(items, description, total)


def _refuse_unknown(method: Callable, owner: str) -> Callable:
    """A method that lists the keyword arguments it knows when it is given another one."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if any(p.kind == p.VAR_KEYWORD for p in parameters):
        return method

    @functools.wraps(method)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        unknown = [name for name in kwargs if name not in known]
        if unknown:
            what = owner if method.__name__ == "__init__" else f"{owner}.{method.__name__}"
            raise TypeError(
                f"{what}: expected arguments of {', '.join(known)}, got {', '.join(unknown)}"
            )
        return method(self, *args, **kwargs)

    return checked
