from .backgrounds import (
    ConstantBackground,
    EnvironmentMapBackground,
    LearnedBackground,
    SphericalHarmonicsBackground,
)
from .splat_renderer import SplatRenderer

__all__ = [
    "ConstantBackground",
    "EnvironmentMapBackground",
    "LearnedBackground",
    "SphericalHarmonicsBackground",
    "SplatRenderer",
]
