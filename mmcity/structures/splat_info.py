"""Statements of a file of Gaussians besides their numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mmcity.utils.checks import check_choice

from .axes import AXES

#: Renderers that a scene may have been trained with.
SPLAT_MODELS = ("default", "antialiased", "2dgs")
#: Colour spaces of SH coefficients.
COLOR_SPACES = ("srgb", "linear")


@dataclass(frozen=True)
class SplatInfo:
    """Statements of a file of Gaussians besides their numbers.

    Attributes:
        model: Renderer that the scene was trained with: ``default``, ``antialiased`` (screen-space
            filter that keeps energy) or ``2dgs`` (surfels).
        axes: Name of :data:`~mmcity.structures.axes.AXES`; None where the file does not say.
        color_space: Of the SH, ``srgb`` or ``linear``.
        format: Name of the format and its version.
        sh_degree: Of the file, before any cut.
        generator: Program that wrote it; None where the file does not say.
        lost: One clause for each thing that a writer had to leave out or change.
        extras: What some formats hold besides, such as ``safe_orbit`` of SPZ.

    Raises:
        ValueError: If the model, axes or colour space is none that is known.
    """

    model: str = "default"
    axes: str | None = None
    color_space: str = "srgb"
    format: str = ""
    sh_degree: int = 0
    generator: str | None = None
    lost: tuple[str, ...] = ()
    extras: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        check_choice("model", self.model, SPLAT_MODELS)
        check_choice("color_space", self.color_space, COLOR_SPACES)
        if self.axes is not None:
            check_choice("axes", self.axes, AXES)
