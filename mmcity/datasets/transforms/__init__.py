from .base import BaseTransform
from .multi_view import (
    AlignAdjacentCameras,
    BEVDataAug,
    BEVLoadMultiViewImageFromFiles,
    ImageAug3D,
    LoadFeatMaps,
    LoadOccFromFile,
    PackMultiViewInputs,
    PointToMultiViewDepth,
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
