"""Files of Gaussians and tables of points (PLY, SPZ, splat, glTF), and of voxel grids."""

from .frame_files import read_frame_of, stamp_frame
from .gaussian_files import (
    GAUSSIAN_SUFFIXES,
    WRITABLE_SUFFIXES,
    read_gaussian_file,
    read_gaussians,
    write_gaussians,
)
from .gaussian_format import GaussianFileError
from .gaussians_compressed_ply import read_compressed_ply, write_compressed_ply
from .gaussians_gltf import read_gaussians_glb, write_gaussians_glb
from .gaussians_ksplat import read_ksplat
from .gaussians_ply import (
    read_gaussians_ply,
    read_splat,
    write_gaussians_ply,
    write_splat,
)
from .gaussians_sog import read_sog, write_sog
from .gaussians_spz import read_spz, write_spz
from .gaussians_usd import read_usd_splats, write_usd_splats
from .ply import PlyFormatError, read_ply_vertices, write_ply_vertices
from .voxel_files import read_voxel_grid, write_voxel_grid

__all__ = [
    "GAUSSIAN_SUFFIXES",
    "GaussianFileError",
    "PlyFormatError",
    "WRITABLE_SUFFIXES",
    "read_compressed_ply",
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
    "stamp_frame",
    "write_compressed_ply",
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
