"""Native operators of mmcity, importable as ``mmcity_ops``."""

from mmcity_ops._backend import debug_mode, set_debug
from mmcity_ops.functional.intersection import (
    TileLists,
    isect_offset_encode,
    isect_tiles,
    tile_lists,
)
from mmcity_ops.functional.rasterize import rasterize_to_pixels

__all__ = [
    "TileLists",
    "debug_mode",
    "isect_offset_encode",
    "isect_tiles",
    "rasterize_to_pixels",
    "set_debug",
    "tile_lists",
]
