"""Occupancy of single frames on Occ3D: mIoU, IoU, ranges, RayIoU."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from rich.table import Table
from torch import Tensor

from mmcity.datasets.io.info_pickle import load_info_pickle
from mmcity.datasets.io.occupancy_files import read_occ3d_nuscenes_frame
from mmcity.evaluation.functional.occupancy import OccupancyCounts, count_occupancy
from mmcity.evaluation.functional.ray_iou import RayCounts, count_rays
from mmcity.registry import METRICS
from mmcity.structures import VoxelGrid
from mmcity.utils.tables import log_table

#: Labels of ``others`` and ``other_flat``.
_OTHERS = (0, 12)


@METRICS.register_module()
class OccMetric(BaseMetric):
    """IoU over the masked voxels of all frames.

    ``miou`` is the mean over all classes but free that occur in prediction or ground truth
    (17 on Occ3D-nuScenes: classes that are never predicted count as 0); ``miou15`` leaves out
    ``others`` and ``other_flat``; ``miou_present`` is over the classes of the ground truth alone,
    for few frames in which one wrong voxel of a class that is not there would cost its whole
    share. Counts are collected over ranks and start anew with every evaluation.

    Args:
        num_classes: Labels, free included. Defaults to 18.
        use_lidar_mask: Count voxels seen by the lidar. Defaults to False.
        use_image_mask: Count voxels seen by a camera; goes before the lidar mask.
            Defaults to True.
        free_class: Label of empty voxels. Defaults to 17.
        ranges: Borders in metres of horizontal distance bands to report beside.
            Defaults to (20, 40).
        volume_range: Grid in metres. Defaults to Occ3D's.
        ray_iou: Also report RayIoU; needs ``ray_origins`` (O, 3) on the data samples, the
            sensor positions in the frame of the grid. Defaults to False.
        constant_from: Dict of ``data_root`` and ``ann_file`` of training key frames. Also
            scores the constant predictor that answers every frame with the label that each
            voxel has most often there; any use of the images shows as a gain over it.
            Defaults to None.
        **options: ``collect_device``, ``prefix``, as in mmengine.
    """

    def __init__(
        self,
        num_classes: int = 18,
        use_lidar_mask: bool = False,
        use_image_mask: bool = True,
        free_class: int = 17,
        ranges: Sequence[float] = (20.0, 40.0),
        volume_range: Sequence[float] = (-40.0, -40.0, -1.0, 40.0, 40.0, 5.4),
        ray_iou: bool = False,
        constant_from: dict | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.num_classes = num_classes
        self.use_lidar_mask = use_lidar_mask
        self.use_image_mask = use_image_mask
        self.free_class = free_class
        self.ranges = tuple(ranges)
        self.volume_range = tuple(volume_range)
        self.ray_iou = ray_iou
        self.constant_from = constant_from
        self._constant: Tensor | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count one batch; samples carry prediction, target and masks."""
        for sample in data_samples:
            pred = sample["pred_occupancy"].cpu()
            target = sample["gt_occupancy"].cpu()
            valid = target < self.num_classes  # 255 marks voxels without a label
            if self.use_image_mask:
                valid = valid & sample["mask_camera"].bool().cpu()
            elif self.use_lidar_mask:
                valid = valid & sample["mask_lidar"].bool().cpu()
            masks = [valid, *(valid & band for band in self._bands(target.shape))]
            rows = [self._count(pred, target, mask) for mask in masks]
            result = {"counts": torch.stack(rows)}
            if self.constant_from is not None:
                result["constant"] = self._count(self._constant_map(), target, valid)
            if self.ray_iou:
                result["rays"] = self._rays(pred, target, sample["ray_origins"])
            self.results.append(result)

    def _constant_map(self) -> Tensor:
        """The most frequent label of each voxel over training frames where it was seen."""
        if self._constant is None:
            root = Path(self.constant_from["data_root"])
            infos = load_info_pickle(root / self.constant_from["ann_file"])["data_list"]
            votes: np.ndarray | None = None
            for info in infos:
                path = root / "gts" / info["scene_idx"] / info["token"] / "labels.npz"
                labels, lidar, camera = read_occ3d_nuscenes_frame(path)
                seen = (camera if self.use_image_mask else lidar) & (labels < self.num_classes)
                if votes is None:
                    votes = np.zeros((*labels.shape, self.num_classes), dtype=np.uint16)
                index = np.flatnonzero(seen)
                votes.reshape(-1, self.num_classes)[index, labels.ravel()[index]] += 1
            # A voxel that was never seen counts as free.
            votes[..., self.free_class] += 1
            self._constant = torch.from_numpy(votes.argmax(-1))
        return self._constant

    def _count(self, pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        counts = count_occupancy(pred, target, self.num_classes, self.free_class, mask)
        return torch.cat(
            [counts.true_positive, counts.false_positive, counts.false_negative, counts.binary]
        )

    def _rays(self, pred: Tensor, target: Tensor, origins: Tensor) -> Tensor:
        low, high = self.volume_range[0], self.volume_range[3]
        place = dict(
            origin=torch.tensor(self.volume_range[:3]),
            voxel_size=(high - low) / target.shape[0],
            free_label=self.free_class,
        )
        target = torch.where(target < self.num_classes, target, self.free_class)
        grids = (VoxelGrid(labels, **place) for labels in (pred, target))
        return count_rays(*grids, origins.cpu(), self.num_classes).values

    def _bands(self, shape: Sequence[int]) -> list[Tensor]:
        low, high = self.volume_range[:3], self.volume_range[3:]
        x, y = (
            low[a] + (torch.arange(shape[a]) + 0.5) * (high[a] - low[a]) / shape[a] for a in (0, 1)
        )
        distance = (x[:, None].square() + y[None].square()).sqrt()[..., None].expand(shape)
        borders = (0.0, *self.ranges)
        return [(distance >= a) & (distance < b) for a, b in zip(borders, borders[1:])]

    def _unpack(self, row: Tensor) -> OccupancyCounts:
        k = self.num_classes
        return OccupancyCounts(row[:k], row[k : 2 * k], row[2 * k : 3 * k], row[3 * k :])

    def _scores(self, counts: OccupancyCounts) -> dict[str, float]:
        seen = (counts.true_positive + counts.false_positive + counts.false_negative) > 0
        seen[self.free_class] = False
        scored = seen.clone()
        rest = [label for label in _OTHERS if label < self.num_classes]
        scored[rest] = False
        present = counts.present() & seen
        return {
            "miou": counts.mean_iou(seen),
            "miou15": counts.mean_iou(scored),
            "miou_present": counts.mean_iou(present),
            "iou": counts.binary_iou(),
        }

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Scores in percent, and the table in the log."""
        total = torch.stack([result["counts"] for result in results]).sum(0)
        counts = self._unpack(total[0])
        class_iou = counts.class_iou()
        names = (self.dataset_meta or {}).get("classes") or tuple(
            str(c) for c in range(self.num_classes)
        )
        metrics = {**self._scores(counts), "frames": float(len(results))}
        means = [name for name in metrics if name != "frames"]
        mask = "camera" if self.use_image_mask else "lidar" if self.use_lidar_mask else "no"
        table = Table("class", "IoU [%]", title=f"{len(results)} frames, {mask} mask")
        constant = None
        if self.constant_from is not None:
            constant = self._unpack(torch.stack([r["constant"] for r in results]).sum(0))
            for name, value in self._scores(constant).items():
                metrics[f"constant_{name}"] = value
            table.add_column("constant [%]")
        seen = (counts.true_positive + counts.false_positive + counts.false_negative) > 0
        for c in range(self.num_classes):
            if c == self.free_class:
                continue
            value = float(class_iou[c]) if seen[c] else float("nan")
            metrics[names[c]] = value
            beside = [] if constant is None else [f"{float(constant.class_iou()[c]):.2f}"]
            table.add_row(names[c], f"{value:.2f}", *beside)
        for border, row in zip(self.ranges, total[1:]):
            band = self._scores(self._unpack(row))
            for name in ("miou", "iou"):
                metrics[f"{name}_to_{border:g}m"] = band[name]
        if self.ray_iou:
            rays = sum(
                (RayCounts(self.num_classes, result["rays"]) for result in results),
                RayCounts(self.num_classes),
            )
            metrics.update(rays.ray_iou(self.free_class))
        for name in (*means, "RayIoU"):
            if name in metrics:
                other = metrics.get(f"constant_{name}")
                beside = [] if other is None else [f"{other:.2f}"]
                table.add_row(name, f"{metrics[name]:.2f}", *beside, style="bold")
        log_table(table, 60)
        return metrics
