"""Intersection over union of voxel labels, from counts that can be summed over ranks."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class OccupancyCounts:
    """Voxel counts per class, int64 ``(K,)`` each.

    ``binary`` holds true positives, false positives and false negatives of occupied against
    free.
    """

    true_positive: Tensor
    false_positive: Tensor
    false_negative: Tensor
    binary: Tensor

    def __add__(self, other: "OccupancyCounts") -> "OccupancyCounts":
        return OccupancyCounts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
            self.binary + other.binary,
        )

    def class_iou(self) -> Tensor:
        """IoU per class in percent, float64 ``(K,)``; 0 for a class that never occurs."""
        tp = self.true_positive.double()
        return 100.0 * tp / (tp + self.false_positive + self.false_negative + 1e-10)

    def present(self) -> Tensor:
        """Classes that occur in the ground truth, bool ``(K,)``."""
        return (self.true_positive + self.false_negative) > 0

    def mean_iou(self, classes: Tensor) -> float:
        """Mean IoU in percent over ``classes`` (bool ``(K,)``); nan if there is none."""
        values = self.class_iou()[classes]
        return float(values.mean()) if len(values) else float("nan")

    def binary_iou(self) -> float:
        """IoU of occupied against free in percent."""
        tp, fp, fn = (float(v) for v in self.binary)
        return 100.0 * tp / (tp + fp + fn + 1e-10)


def count_occupancy(
    pred: Tensor, target: Tensor, num_classes: int, free_class: int, valid: Tensor | None = None
) -> OccupancyCounts:
    """Count hits and misses of predicted labels.

    Args:
        pred: Integer labels, any shape.
        target: Integer labels, same shape.
        num_classes: Classes K, ``free_class`` included.
        free_class: Class of empty voxels.
        valid: Bool, same shape; voxels that count. Defaults to all.

    Raises:
        ValueError: If shapes differ or a label is outside 0..K-1.
    """
    if pred.shape != target.shape:
        raise ValueError(f"target: expected {tuple(pred.shape)} as pred, got {tuple(target.shape)}")
    if valid is not None:
        pred, target = pred[valid], target[valid]
    pred, target = pred.reshape(-1).long(), target.reshape(-1).long()
    for name, labels in (("pred", pred), ("target", target)):
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
            raise ValueError(
                f"{name}: expected labels of 0..{num_classes - 1}, got "
                f"{int(labels.min())}..{int(labels.max())}"
            )
    table = torch.bincount(target * num_classes + pred, minlength=num_classes**2)
    table = table.view(num_classes, num_classes)
    tp = table.diagonal().clone()
    occupied = torch.ones(num_classes, dtype=torch.bool, device=table.device)
    occupied[free_class] = False
    binary = torch.stack(
        [
            table[occupied][:, occupied].sum(),
            table[free_class, occupied].sum(),
            table[occupied, free_class].sum(),
        ]
    )
    return OccupancyCounts(tp, table.sum(0) - tp, table.sum(1) - tp, binary)
