"""Interface of densification strategies."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..splats import SplatParameters

__all__ = ["Strategy"]


class Strategy(ABC):
    """Grows, moves and prunes Gaussians after an optimiser step.

    A hook drives it (:class:`mmcity.engine.hooks.DensificationHook`). All randomness comes
    from a generator seeded by ``seed`` and the iteration, and all memory is in
    :meth:`state_dict`: a resumed run makes the very same edits.

    Args:
        seed: Seed of the draws. Defaults to 0.
    """

    #: True where the strategy reads the gradients of the projected means.
    uses_gradients: bool = False
    #: True where it reads absolute (per-pixel) gradients of the projected means.
    absgrad: bool = False

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @abstractmethod
    def step(
        self,
        splats: SplatParameters,
        optimizer: Optimizer,
        iteration: int,
        render_meta: list[dict[str, Any]],
        *,
        scene_extent: float,
        means_lr: float,
    ) -> dict[str, int]:
        """Look at the last render and edit the scene where it is time to.

        Args:
            splats: The scene; changed in place.
            optimizer: Its optimiser; moments are kept in step.
            iteration: Number of finished iterations, counted from 1.
            render_meta: ``meta`` of each rasterization of this iteration.
            scene_extent: Radius of the camera centres, world units.
            means_lr: Present learning rate of the means, world units.

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
                f"{type(self).__name__} keeps no state, received {sorted(state)}: the checkpoint "
                "was written with another strategy"
            )

    def _generator(self, iteration: int, device: torch.device) -> torch.Generator:
        # A large odd factor keeps the streams of neighbouring seeds apart.
        return torch.Generator(device=device).manual_seed(self.seed * 1_000_003 + iteration)
