"""Interface of strategies that grow a scene."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Strategy(ABC):
    """Grows, moves and prunes what a scene consists of, after an optimiser step.

    A hook drives it (:class:`mmcity.engine.hooks.GrowthHook`) through
    :meth:`mmcity.models.layers.SceneModel.grow`. All randomness comes from a generator seeded
    by ``seed`` and the iteration, and all memory is in :meth:`state_dict` or in the scene: a
    resumed run makes the very same edits.
    """

    #: True where the strategy reads the gradients of the projected means.
    uses_gradients: bool = False
    #: True where it reads absolute (per-pixel) gradients of the projected means.
    absgrad: bool = False
    #: Seed of the draws.
    seed: int = 0

    def keeps_statistics(self, iteration: int) -> bool:
        """Whether the training views of this iteration, counted from 1, are looked at."""
        return self.uses_gradients

    @abstractmethod
    def step(
        self, table: nn.Module, optimizer: Optimizer, iteration: int, *more: Any, **named: Any
    ) -> dict[str, int]:
        """Look at the last views and edit the scene where it is time to.

        Args:
            table: Gaussians or anchors, one row each; changed in place.
            optimizer: Its optimiser; moments are kept in step.
            iteration: Number of this iteration, counted from 1.
            *more, **named: What else scenes of the kind give, see their ``grow``.

        Returns:
            Counts of what was done, empty if nothing was.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors that :meth:`load_state_dict` needs to go on exactly."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore :meth:`state_dict`."""
        if state:
            raise ValueError(
                f"{type(self).__name__}: expected no state, got {sorted(state)}: the checkpoint "
                "was written with another strategy"
            )

    def _generator(self, iteration: int, device: torch.device) -> torch.Generator:
        # A large odd factor keeps the streams of neighbouring seeds apart.
        return torch.Generator(device=device).manual_seed(self.seed * 1_000_003 + iteration)
