"""Data sample of occupancy tasks: targets, masks and predictions of one frame or clip."""

from mmengine.structures import BaseDataElement
from torch import Tensor

__all__ = ["OccupancyDataSample"]


class OccupancyDataSample(BaseDataElement):
    """Carries labels through model, metric and dump.

    Attributes:
        gt_occupancy: Integer labels ``(X, Y, Z)`` of a frame or ``(T, X, Y, Z)`` of a clip.
        invalid_mask: Same shape, True where a voxel does not count in metrics.
        pred_occupancy: Predicted labels, same shape.
    """

    @property
    def gt_occupancy(self) -> Tensor:
        return self._gt_occupancy

    @gt_occupancy.setter
    def gt_occupancy(self, value: Tensor) -> None:
        self.set_field(value, "_gt_occupancy", dtype=Tensor)

    @gt_occupancy.deleter
    def gt_occupancy(self) -> None:
        del self._gt_occupancy

    @property
    def invalid_mask(self) -> Tensor:
        return self._invalid_mask

    @invalid_mask.setter
    def invalid_mask(self, value: Tensor) -> None:
        self.set_field(value, "_invalid_mask", dtype=Tensor)

    @invalid_mask.deleter
    def invalid_mask(self) -> None:
        del self._invalid_mask

    @property
    def pred_occupancy(self) -> Tensor:
        return self._pred_occupancy

    @pred_occupancy.setter
    def pred_occupancy(self, value: Tensor) -> None:
        self.set_field(value, "_pred_occupancy", dtype=Tensor)

    @pred_occupancy.deleter
    def pred_occupancy(self) -> None:
        del self._pred_occupancy
