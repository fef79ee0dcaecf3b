"""3D Gaussian Splatting: one Gaussian per row, grown by a strategy."""

from .exposure import AffineExposure, BilateralGridExposure
from .gaussian_splatting import GaussianSplatting
from .initialization import random_points, splats_from_points
from .splats import SplatParameters
from .strategies import DefaultStrategy, MCMCStrategy, Strategy

__all__ = [
    "AffineExposure",
    "BilateralGridExposure",
    "DefaultStrategy",
    "GaussianSplatting",
    "MCMCStrategy",
    "SplatParameters",
    "Strategy",
    "random_points",
    "splats_from_points",
]
