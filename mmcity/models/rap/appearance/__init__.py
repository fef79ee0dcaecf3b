"""Gaussian maps whose colours follow a photograph."""

from .color_net import AppearanceColorNet, encode_positions
from .features import box_coordinate_loss, init_box_coords, project_features, sample_features
from .map_generator import AppearanceMapGenerator
from .model import AppearanceModel
from .scene import AppearanceGaussians
from .splats import AppearanceSplats

__all__ = [
    "AppearanceColorNet",
    "AppearanceGaussians",
    "AppearanceMapGenerator",
    "AppearanceModel",
    "AppearanceSplats",
    "box_coordinate_loss",
    "encode_positions",
    "init_box_coords",
    "project_features",
    "sample_features",
]
