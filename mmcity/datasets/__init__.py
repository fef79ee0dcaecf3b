"""Datasets, readers and transforms; importing this package fills their registries."""

from . import transforms
from .hexplane_rollout import HexPlaneRollout
from .occ_sequence import (
    CarlaSCOccSequence,
    Occ3DNuScenesOccSequence,
    Occ3DWaymoOccSequence,
    SemanticKITTIOccSequence,
)

__all__ = [
    "CarlaSCOccSequence",
    "HexPlaneRollout",
    "Occ3DNuScenesOccSequence",
    "Occ3DWaymoOccSequence",
    "SemanticKITTIOccSequence",
    "transforms",
]
