"""Stages of localisers: from pictures to a map, a pose network and localised queries."""

from .localizer_stages import CheckScene, ScenePoses, TrainMap, WriteLocalizer
from .make_localizer import make_localizer
from .stages import LocaliseQueries, PoseNetwork, stem_to_pose, true_poses

__all__ = [
    "CheckScene",
    "LocaliseQueries",
    "PoseNetwork",
    "ScenePoses",
    "TrainMap",
    "WriteLocalizer",
    "make_localizer",
    "stem_to_pose",
    "true_poses",
]
