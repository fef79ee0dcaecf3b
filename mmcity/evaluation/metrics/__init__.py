"""Metrics of mmengine's evaluator."""

from .camera_pose import RelativePoseMetric, TrajectoryMetric
from .image_quality import ImageQualityMetric
from .localization import PoseMetric
from .occ_dynamics import ConditionFidelity, TemporalConsistency
from .occ_generation import OccGenMetric2D, OccGenMetric3D
from .occ_iou import OccIoU
from .occ_metric import OccMetric
from .reconstruction import ReconstructionMetric
from .sequence_depth import SequenceDepthMetric

__all__ = [
    "ConditionFidelity",
    "ImageQualityMetric",
    "OccGenMetric2D",
    "OccGenMetric3D",
    "OccIoU",
    "OccMetric",
    "ReconstructionMetric",
    "PoseMetric",
    "RelativePoseMetric",
    "SequenceDepthMetric",
    "TemporalConsistency",
    "TrajectoryMetric",
]
