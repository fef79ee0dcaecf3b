from .color_net import AppearanceColorNet, encode_positions
from .features import box_coordinate_loss, init_box_coords, project_features, sample_features
from .map_generator import AppearanceMapGenerator
from .model import AppearanceModel

__all__ = [
    "AppearanceColorNet",
    "AppearanceMapGenerator",
    "AppearanceModel",
    "box_coordinate_loss",
    "encode_positions",
    "init_box_coords",
    "project_features",
    "sample_features",
]
