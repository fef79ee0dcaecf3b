"""Datasets, readers and transforms; importing this package fills their registries."""

from . import transforms
from .citygsx import CityGSXDataset
from .colmap import ColmapDataset
from .hexplane_rollout import HexPlaneRollout
from .localization import CambridgeLandmarks, SevenScenes
from .nerfstudio import NerfstudioDataset
from .nuscenes_occ import NuScenesOccDataset
from .occ_sequence import (
    CarlaSCOccSequence,
    Occ3DNuScenesOccSequence,
    Occ3DWaymoOccSequence,
    SemanticKITTIOccSequence,
)
from .posed_images import PosedImage, PosedImagesDataset
from .samplers import CameraSampler
from .sequences import ClipDataset, EvalSequenceDataset, MixtureDataset, MixtureSampler

__all__ = [
    "CambridgeLandmarks",
    "CameraSampler",
    "CarlaSCOccSequence",
    "CityGSXDataset",
    "ClipDataset",
    "ColmapDataset",
    "EvalSequenceDataset",
    "HexPlaneRollout",
    "MixtureDataset",
    "MixtureSampler",
    "NerfstudioDataset",
    "NuScenesOccDataset",
    "Occ3DNuScenesOccSequence",
    "Occ3DWaymoOccSequence",
    "PosedImage",
    "PosedImagesDataset",
    "SemanticKITTIOccSequence",
    "SevenScenes",
    "transforms",
]
