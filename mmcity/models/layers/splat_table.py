"""Geometry of trainable Gaussians, one row each, stored before activation."""

import torch
from torch import Tensor, nn

from .resizable import ResizableModule


class SplatTable(ResizableModule):
    """Means, scales, rotations and opacities of Gaussians whose number changes while training.

    Subclasses add what colours them, and list all parameters in ``NAMES``. The
    :class:`torch.nn.Parameter` objects stay the same and only their ``data`` is exchanged, so
    that an optimiser which holds them never loses sight of them. A state dict restores a scene
    of any size.

    Shapes: ``means`` (N, 3) world units; ``log_scales`` (N, 3); ``quats`` (N, 4) wxyz, not
    normalised; ``opacity_logits`` (N,).
    """

    #: Model that owns the table, for messages.
    model_name = "Gaussian scene"
    NAMES: tuple[str, ...] = ("means", "log_scales", "quats", "opacity_logits")

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.zeros(0, 3))
        self.log_scales = nn.Parameter(torch.zeros(0, 3))
        self.quats = nn.Parameter(torch.zeros(0, 4))
        self.opacity_logits = nn.Parameter(torch.zeros(0))

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def scales(self) -> Tensor:
        """(N, 3) standard deviations along the axes, world units."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Tensor:
        """(N,) opacities in (0, 1)."""
        return self.opacity_logits.sigmoid()

    def assign(self, **values: Tensor) -> None:
        """Replace the whole scene; every attribute must be given, all of one length.

        Raises:
            ValueError: If an attribute is missing or has a wrong shape.
        """
        self._check(values, "assign")
        for name in self.NAMES:
            parameter = getattr(self, name)
            parameter.grad = None
            parameter.data = values[name].detach().to(parameter.data).contiguous().clone()

    def _check(self, values: dict[str, Tensor], where: str) -> None:
        missing = [name for name in self.NAMES if name not in values]
        if missing:
            raise ValueError(f"{where}: expected {', '.join(missing)} of the Gaussians, got none")
        count = values["means"].shape[0]
        for name in self.NAMES:
            expected = (count, *getattr(self, name).shape[1:])
            if tuple(values[name].shape) != expected:
                raise ValueError(
                    f"{where}: '{name}' has shape {tuple(values[name].shape)}, expected "
                    f"{expected}{self._hint()}"
                )

    def _hint(self) -> str:
        """The setting that decides the shapes, for messages."""
        return ""

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        values = {n: state_dict[prefix + n] for n in self.NAMES if prefix + n in state_dict}
        # A scene model without its scene is never what the user meant: say so at once
        # instead of listing missing keys and going on with an empty scene.
        self._check(values, f"This checkpoint does not fit a {self.model_name} model")
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
