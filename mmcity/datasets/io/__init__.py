from .colmap_model import (
    CAMERA_MODELS,
    ColmapCamera,
    ColmapFormatError,
    ColmapImage,
    ColmapModel,
    ColmapPoints,
    find_colmap_model,
    read_colmap_model,
    write_colmap_model,
)

__all__ = [
    "CAMERA_MODELS",
    "ColmapCamera",
    "ColmapFormatError",
    "ColmapImage",
    "ColmapModel",
    "ColmapPoints",
    "find_colmap_model",
    "read_colmap_model",
    "write_colmap_model",
]
