"""Native operators of mmcity, importable as ``mmcity_ops``."""

from mmcity_ops._backend import debug_mode, set_debug
from mmcity_ops.functional.covariance import quat_scale_to_covar_preci
from mmcity_ops.functional.culling import frustum_cull, select_lod
from mmcity_ops.functional.densify import accumulate_densify_stats
from mmcity_ops.functional.intersection import (
    TileLists,
    isect_offset_encode,
    isect_tiles,
    tile_lists,
)
from mmcity_ops.functional.knn import knn_mean_dist2
from mmcity_ops.functional.mesh import extract_mesh, keep_largest_clusters
from mmcity_ops.functional.plane import plane_depth, plane_features
from mmcity_ops.functional.projection import fully_fused_projection
from mmcity_ops.functional.rasterization import rasterization
from mmcity_ops.functional.rasterize import rasterize_to_pixels
from mmcity_ops.functional.selective_adam import selective_adam
from mmcity_ops.functional.semantic_splat import semantic_splat
from mmcity_ops.functional.spherical_harmonics import spherical_harmonics
from mmcity_ops.functional.ssim import fused_ssim
from mmcity_ops.functional.surfel import (
    projection_2dgs,
    rasterization_2dgs,
    rasterize_to_pixels_2dgs,
)
from mmcity_ops.functional.tiles import TilePartition, blocks_to_images, rasterize_tiles, tile_costs
from mmcity_ops.functional.tsdf import TSDFVolume, tsdf_integrate
from mmcity_ops.functional.voxelize_gaussians import gaussians_to_voxels
from mmcity_ops.functional.voxelize_points import (
    scatter_reduce_voxels,
    voxelize_dynamic,
    voxelize_hard,
)

__all__ = [
    "TSDFVolume",
    "TileLists",
    "TilePartition",
    "accumulate_densify_stats",
    "blocks_to_images",
    "debug_mode",
    "extract_mesh",
    "frustum_cull",
    "fully_fused_projection",
    "fused_ssim",
    "gaussians_to_voxels",
    "isect_offset_encode",
    "isect_tiles",
    "keep_largest_clusters",
    "knn_mean_dist2",
    "plane_depth",
    "plane_features",
    "projection_2dgs",
    "quat_scale_to_covar_preci",
    "rasterization",
    "rasterization_2dgs",
    "rasterize_tiles",
    "rasterize_to_pixels",
    "rasterize_to_pixels_2dgs",
    "scatter_reduce_voxels",
    "select_lod",
    "selective_adam",
    "semantic_splat",
    "set_debug",
    "spherical_harmonics",
    "tile_costs",
    "tile_lists",
    "tsdf_integrate",
    "voxelize_dynamic",
    "voxelize_hard",
]
