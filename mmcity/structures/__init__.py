from . import geometry, multi_view
from .cameras import CAMERA_TYPES, Cameras
from .data_samples import (
    LocalizationDataSample,
    SceneDataSample,
    SequenceDataSample,
)
from .gaussians import Gaussians
from .gaussians_io import GaussianFileError, read_gaussians_ply, write_gaussians_ply, write_splat
from .occupancy_data_sample import OccupancyDataSample
from .ply import PlyFormatError, read_ply_vertices, write_ply_vertices
from .sim3 import Sim3
from .spherical_harmonics import SH_C0, rotate_sh, sh_degree_of
from .trajectory import Trajectory, TrajectoryFormatError
from .voxel_grid import VoxelGrid

__all__ = [
    "CAMERA_TYPES",
    "SH_C0",
    "Cameras",
    "GaussianFileError",
    "Gaussians",
    "LocalizationDataSample",
    "OccupancyDataSample",
    "PlyFormatError",
    "SceneDataSample",
    "SequenceDataSample",
    "Sim3",
    "Trajectory",
    "TrajectoryFormatError",
    "VoxelGrid",
    "geometry",
    "multi_view",
    "read_gaussians_ply",
    "read_ply_vertices",
    "rotate_sh",
    "sh_degree_of",
    "write_gaussians_ply",
    "write_ply_vertices",
    "write_splat",
]
