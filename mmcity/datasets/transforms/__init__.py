"""Transforms of samples, from files to model inputs."""

from .base import BaseTransform
from .image_augmentation import ImageAug3D
from .image_maps import LoadFeatMaps, PointToMultiViewDepth
from .multi_view import (
    AlignAdjacentCameras,
    BEVDataAug,
    BEVLoadMultiViewImageFromFiles,
    LoadOccFromFile,
    PackMultiViewInputs,
)
from .occupancy import FlipXYT, MakeCommand, MakeLayout, MakeTrajectory, PackOccInputs
from .posed_images import (
    ImageReadError,
    LoadPosedImage,
    PackSceneInputs,
    ResizePosedImage,
    image_size,
    read_image,
    target_size,
)
from .undistort import UndistortPosedImage

__all__ = [
    "AlignAdjacentCameras",
    "BEVDataAug",
    "BEVLoadMultiViewImageFromFiles",
    "ImageAug3D",
    "LoadFeatMaps",
    "LoadOccFromFile",
    "PackMultiViewInputs",
    "PointToMultiViewDepth",
    "BaseTransform",
    "FlipXYT",
    "ImageReadError",
    "LoadPosedImage",
    "MakeCommand",
    "MakeLayout",
    "MakeTrajectory",
    "PackOccInputs",
    "PackSceneInputs",
    "ResizePosedImage",
    "UndistortPosedImage",
    "image_size",
    "read_image",
    "target_size",
]
