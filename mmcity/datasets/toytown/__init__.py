"""A procedural city with exact ground truth, written in the formats that users bring."""

from mmcity.datasets.toytown.cameras import View, look_at
from mmcity.datasets.toytown.config import ToytownConfig
from mmcity.datasets.toytown.renderer import Body, Frame, Renderer
from mmcity.datasets.toytown.taxonomy import TAXONOMY, WorldClass, class_colors, label_map
from mmcity.datasets.toytown.world import World, build_world

__all__ = [
    "TAXONOMY",
    "Body",
    "Frame",
    "Renderer",
    "ToytownConfig",
    "View",
    "World",
    "WorldClass",
    "build_world",
    "class_colors",
    "label_map",
    "look_at",
]
