"""Files of Gaussians and tables of points (PLY, SPZ, splat, glTF), and of voxel grids."""

from .frame_files import read_frame_of, stamp_frame
from .gaussian_files import GAUSSIAN_SUFFIXES, read_gaussians, write_gaussians
from .gaussians_gltf import read_gaussians_glb, write_gaussians_glb
from .gaussians_ply import (
    GaussianFileError,
    read_gaussians_ply,
    read_splat,
    write_gaussians_ply,
    write_splat,
)
from .gaussians_spz import read_spz, write_spz
from .ply import PlyFormatError, read_ply_vertices, write_ply_vertices
from .voxel_files import read_voxel_grid, write_voxel_grid

__all__ = [
    "GAUSSIAN_SUFFIXES",
    "GaussianFileError",
    "PlyFormatError",
    "read_frame_of",
    "read_gaussians",
    "read_gaussians_glb",
    "read_gaussians_ply",
    "read_ply_vertices",
    "read_splat",
    "read_spz",
    "read_voxel_grid",
    "stamp_frame",
    "write_gaussians",
    "write_gaussians_glb",
    "write_gaussians_ply",
    "write_ply_vertices",
    "write_splat",
    "write_spz",
    "write_voxel_grid",
]
