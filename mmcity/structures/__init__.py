"""Tensor containers, geometry, and the files of Gaussians and meshes."""

from . import geometry, multi_view
from .axes import AXES, axes_matrix, convert_axes, right_handed_twin
from .bounds import drop_unseen, is_stray, robust_bounds
from .cameras import CAMERA_TYPES, Cameras
from .data_samples import (
    LocalizationDataSample,
    OccupancyDataSample,
    SceneDataSample,
    SequenceDataSample,
)
from .gaussian_lod import GaussianLodTree, LodCell, build_lod_tree, merge_gaussians, select_cells
from .gaussians import Gaussians
from .io import (
    GAUSSIAN_SUFFIXES,
    WRITABLE_SUFFIXES,
    GaussianFileError,
    PlyFormatError,
    read_compressed_ply,
    read_frame_of,
    read_gaussian_file,
    read_gaussians,
    read_gaussians_glb,
    read_gaussians_ply,
    read_ksplat,
    read_ply_vertices,
    read_sog,
    read_splat,
    read_spz,
    read_usd_splats,
    read_voxel_grid,
    stamp_frame,
    write_compressed_ply,
    write_gaussians,
    write_gaussians_glb,
    write_gaussians_ply,
    write_ply_vertices,
    write_sog,
    write_splat,
    write_spz,
    write_usd_splats,
    write_voxel_grid,
)
from .scene_frame import SceneFrame, read_frame, write_frame
from .sim3 import Sim3
from .spherical_harmonics import SH_C0, rotate_sh, sh_degree_of
from .splat_info import SplatInfo
from .trajectory import Trajectory, TrajectoryFormatError
from .transfer import to_device, to_host
from .voxel_grid import VoxelGrid
from .voxel_rays import cast_rays
from .voxel_views import render_birds_eye, render_oblique

__all__ = [
    "AXES",
    "CAMERA_TYPES",
    "Cameras",
    "GAUSSIAN_SUFFIXES",
    "GaussianFileError",
    "GaussianLodTree",
    "Gaussians",
    "LocalizationDataSample",
    "LodCell",
    "OccupancyDataSample",
    "PlyFormatError",
    "SH_C0",
    "SceneDataSample",
    "SceneFrame",
    "SequenceDataSample",
    "Sim3",
    "SplatInfo",
    "Trajectory",
    "TrajectoryFormatError",
    "VoxelGrid",
    "WRITABLE_SUFFIXES",
    "axes_matrix",
    "build_lod_tree",
    "cast_rays",
    "convert_axes",
    "drop_unseen",
    "geometry",
    "is_stray",
    "merge_gaussians",
    "multi_view",
    "read_compressed_ply",
    "read_frame",
    "read_frame_of",
    "read_gaussian_file",
    "read_gaussians",
    "read_gaussians_glb",
    "read_gaussians_ply",
    "read_ksplat",
    "read_ply_vertices",
    "read_sog",
    "read_splat",
    "read_spz",
    "read_usd_splats",
    "read_voxel_grid",
    "render_birds_eye",
    "render_oblique",
    "right_handed_twin",
    "robust_bounds",
    "rotate_sh",
    "select_cells",
    "sh_degree_of",
    "stamp_frame",
    "to_device",
    "to_host",
    "write_compressed_ply",
    "write_frame",
    "write_gaussians",
    "write_gaussians_glb",
    "write_gaussians_ply",
    "write_ply_vertices",
    "write_sog",
    "write_splat",
    "write_spz",
    "write_usd_splats",
    "write_voxel_grid",
]
