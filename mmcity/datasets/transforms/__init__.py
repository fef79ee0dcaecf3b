from .base import BaseTransform
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
