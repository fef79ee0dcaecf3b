"""From photographs or a film to a scene that can be shown."""

from .pictures import ChoosePictures, choose_pictures
from .reconstruct import reconstruct
from .stages import FinishScene, MeshScene, OrthoScene, StreamPoses, TrainScene

__all__ = [
    "ChoosePictures",
    "FinishScene",
    "MeshScene",
    "OrthoScene",
    "StreamPoses",
    "TrainScene",
    "choose_pictures",
    "reconstruct",
]
