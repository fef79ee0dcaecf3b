from .image_quality import ImageQualityMetric
from .occ_iou import OccIoU

__all__ = [
    "ImageQualityMetric",
    "OccIoU",
]
