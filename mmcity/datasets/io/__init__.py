"""Readers and writers of file formats that several datasets share."""

from .colmap_model import find_colmap_model, read_colmap_model, write_colmap_model
from .colmap_types import (
    CAMERA_MODELS,
    ColmapCamera,
    ColmapFormatError,
    ColmapImage,
    ColmapModel,
    ColmapPoints,
)
from .point_ply import read_point_ply, write_point_ply

__all__ = [
    "CAMERA_MODELS",
    "ColmapCamera",
    "ColmapFormatError",
    "ColmapImage",
    "ColmapModel",
    "ColmapPoints",
    "find_colmap_model",
    "read_colmap_model",
    "read_point_ply",
    "write_colmap_model",
    "write_point_ply",
]
