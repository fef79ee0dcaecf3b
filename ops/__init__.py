"""Native operators of mmcity, importable as ``mmcity_ops``."""

from mmcity_ops._backend import debug_mode, set_debug
from mmcity_ops.functional.intersection import (
    TileLists,
    isect_offset_encode,
    isect_tiles,
    tile_lists,
)
from mmcity_ops.functional.knn import knn_mean_dist2
from mmcity_ops.functional.rasterize import rasterize_to_pixels
from mmcity_ops.functional.ssim import fused_ssim

__all__ = [
    "TileLists",
    "debug_mode",
    "fused_ssim",
    "isect_offset_encode",
    "isect_tiles",
    "knn_mean_dist2",
    "rasterize_to_pixels",
    "set_debug",
    "tile_lists",
]
