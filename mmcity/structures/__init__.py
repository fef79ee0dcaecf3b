from . import geometry
from .cameras import CAMERA_TYPES, Cameras
from .data_samples import (
    LocalizationDataSample,
    OccupancyDataSample,
    SceneDataSample,
    SequenceDataSample,
)
from .gaussians import Gaussians
from .gaussians_io import GaussianFileError, read_gaussians_ply, write_gaussians_ply, write_splat
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
    "SceneDataSample",
    "SequenceDataSample",
    "Sim3",
    "Trajectory",
    "TrajectoryFormatError",
    "VoxelGrid",
    "geometry",
    "read_gaussians_ply",
    "rotate_sh",
    "sh_degree_of",
    "write_gaussians_ply",
    "write_splat",
]
