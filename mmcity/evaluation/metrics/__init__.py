from .camera_pose import RelativePoseMetric, TrajectoryMetric
from .image_quality import ImageQualityMetric
from .localization import PoseMetric
from .occ_iou import OccIoU
from .occ_metric import OccMetric
from .reconstruction import ReconstructionMetric
from .sequence_depth import SequenceDepthMetric

__all__ = [
    "ImageQualityMetric",
    "OccIoU",
    "OccMetric",
    "ReconstructionMetric",
    "PoseMetric",
    "RelativePoseMetric",
    "SequenceDepthMetric",
    "TrajectoryMetric",
]
