from .occ_iou import OccIoU

__all__ = ["OccIoU"]
