"""Renderers of Gaussians and of what lies behind them."""

from .backgrounds import (
    ConstantBackground,
    EnvironmentMapBackground,
    LearnedBackground,
    SphericalHarmonicsBackground,
)
from .median_depth import median_depth
from .splat_renderer import DEPTH_MODES, SplatRenderer

__all__ = [
    "DEPTH_MODES",
    "ConstantBackground",
    "EnvironmentMapBackground",
    "LearnedBackground",
    "SphericalHarmonicsBackground",
    "SplatRenderer",
    "median_depth",
]
