"""Reconstruction IoU of occupancy clips."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from rich.table import Table

from mmcity.evaluation.functional.occupancy import OccupancyCounts, count_occupancy
from mmcity.registry import METRICS
from mmcity.utils.tables import log_table


@METRICS.register_module()
class OccIoU(BaseMetric):
    """mIoU over the classes present in the ground truth, and IoU of occupied against free.

    Counts are summed over all voxels of the split (int64) before any division, so that the
    result does not depend on batch size or number of processes.

    Args:
        num_classes: Label slots K.
        free_class: Class of empty voxels, left out of the mean. Defaults to 0.
        use_valid_mask: Leave out voxels that the data sample's ``invalid_mask`` marks.
            Defaults to True.
        per_frame: Also report the mIoU of each frame of the clip. Defaults to False.
        **options: ``collect_device``, ``prefix``, as in mmengine.
    """

    default_prefix = "occ"

    def __init__(
        self,
        num_classes: int,
        free_class: int = 0,
        use_valid_mask: bool = True,
        per_frame: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.num_classes = num_classes
        self.free_class = free_class
        self.use_valid_mask = use_valid_mask
        self.per_frame = per_frame

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count one batch; samples carry ``pred_occupancy`` and ``gt_occupancy``."""
        for sample in data_samples:
            pred = sample["pred_occupancy"].cpu()
            target = sample["gt_occupancy"].cpu()
            valid = None
            if self.use_valid_mask and "invalid_mask" in sample:
                valid = ~sample["invalid_mask"].bool().cpu()
            counts = [count_occupancy(pred, target, self.num_classes, self.free_class, valid)]
            if self.per_frame:
                for i in range(len(pred)):
                    mask = None if valid is None else valid[i]
                    counts.append(
                        count_occupancy(pred[i], target[i], self.num_classes, self.free_class, mask)
                    )
            self.results.append(
                [
                    torch.cat([c.true_positive, c.false_positive, c.false_negative, c.binary])
                    for c in counts
                ]
            )

    def _sum(self, rows: list[torch.Tensor]) -> OccupancyCounts:
        k = self.num_classes
        total = torch.stack(rows).sum(0)
        return OccupancyCounts(total[:k], total[k : 2 * k], total[2 * k : 3 * k], total[3 * k :])

    def compute_metrics(self, results: list) -> dict[str, float]:
        """IoUs in percent; ``clips`` is the number of clips counted."""
        counts = self._sum([rows[0] for rows in results])
        occupied = torch.ones(self.num_classes, dtype=torch.bool)
        occupied[self.free_class] = False
        present = counts.present() & occupied
        metrics = {
            "mIoU": counts.mean_iou(present),
            "IoU": counts.binary_iou(),
            "classes": float(present.sum()),
            "clips": float(len(results)),
        }
        names = (self.dataset_meta or {}).get("classes")
        names = names or tuple(str(c) for c in range(self.num_classes))
        class_iou = counts.class_iou()
        table = Table("class", "IoU [%]", title=f"occupancy IoU, {len(results)} clips")
        for c in present.nonzero().flatten().tolist():
            metrics[f"IoU_{names[c]}"] = float(class_iou[c])
            table.add_row(names[c], f"{float(class_iou[c]):.2f}")
        if self.per_frame:
            for i in range(1, len(results[0])):
                frame = self._sum([rows[i] for rows in results])
                metrics[f"mIoU_frame{i - 1:02d}"] = frame.mean_iou(frame.present() & occupied)
        log_table(table, 60)
        return metrics
