from .camera_pose import RelativePoseMetric, TrajectoryMetric
from .image_quality import ImageQualityMetric
from .occ_iou import OccIoU
from .reconstruction import ReconstructionMetric
from .sequence_depth import SequenceDepthMetric

__all__ = [
    "ImageQualityMetric",
    "OccIoU",
    "ReconstructionMetric",
    "RelativePoseMetric",
    "SequenceDepthMetric",
    "TrajectoryMetric",
]
