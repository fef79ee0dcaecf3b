"""Losses that configs name, and the arguments they are called with."""

from collections.abc import Mapping

from torch import Tensor, nn

from mmcity.registry import MODELS
from mmcity.utils.checks import check_choice

#: What a loss may ask for by its attribute ``applies_to``.
SUBJECTS = ("picture", "opacities", "scales", "scales and extent")


def build_losses(losses: Mapping[str, dict | None]) -> nn.ModuleDict:
    """Losses of a scene model by name.

    Args:
        losses: Configs by name, None for none of that name. A loss is called with prediction,
            target (B, 3, H, W) and mask (B, H, W) or None, unless its attribute ``applies_to``
            asks for the Gaussians: ``opacities`` (N,), ``scales`` (N, 3), or
            ``scales and extent``.

    Raises:
        ValueError: If the sum of losses would leave one out for its name, or it asks for
            something else.
    """
    named = {name: cfg for name, cfg in losses.items() if cfg is not None}
    built = nn.ModuleDict({name: MODELS.build(cfg) for name, cfg in named.items()})
    for name, loss in built.items():
        if "loss" not in name:
            raise ValueError(
                f"losses: expected names with 'loss', which are summed, got {name!r}: "
                f"call it 'loss_{name}'"
            )
        check_choice(f"{name}: applies_to", subject_of(loss), SUBJECTS)
    return built


def subject_of(loss: nn.Module) -> str:
    """Argument that a loss is called with; those of other packages take the picture."""
    return getattr(loss, "applies_to", "picture")


def gaussian_loss(
    loss: nn.Module, opacities: Tensor, scales: Tensor, extent: float
) -> Tensor | None:
    """Scalar loss of Gaussians themselves, None for one of pictures.

    Args:
        loss: See :func:`build_losses`.
        opacities: (N,) in [0, 1].
        scales: (N, 3) world units.
        extent: Of the training cameras, world units.
    """
    subject = subject_of(loss)
    if subject == "picture":
        return None
    if subject == "opacities":
        return loss(opacities)
    return loss(scales, extent) if subject == "scales and extent" else loss(scales)
