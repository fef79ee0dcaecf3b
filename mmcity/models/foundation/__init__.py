"""Published foundation models behind plain interfaces; their weights are given by path."""

from .featup import FeatUpMaskCLIP
from .grounded_sam2 import SEGMENTATION_WORDS, GroundedSAM2, paint_detections
from .metric3d import Metric3D

__all__ = ["SEGMENTATION_WORDS", "FeatUpMaskCLIP", "GroundedSAM2", "Metric3D", "paint_detections"]
