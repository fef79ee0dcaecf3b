"""A procedural city with exact ground truth, written in the formats that users bring."""

from mmcity.toytown.sensors.cameras import View, look_at
from mmcity.toytown.sensors.renderer import Body, Frame, Renderer
from mmcity.toytown.world.config import ToytownConfig
from mmcity.toytown.world.taxonomy import TAXONOMY, WorldClass, label_map
from mmcity.toytown.world.town import World, build_world

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
    "label_map",
    "look_at",
]
