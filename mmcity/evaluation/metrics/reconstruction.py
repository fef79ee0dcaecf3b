"""Multi-view reconstruction: accuracy, completion and normal consistency."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mmcity.evaluation.functional.means import item_means
from mmcity.evaluation.functional.point_clouds import (
    align_point_maps_by_median,
    cloud_distances,
    estimate_normals,
    icp,
)
from mmcity.registry import METRICS
from mmcity.structures import Sim3
from mmcity.utils.fileio import atomic_path, write_text

LOG_NAMES = ("Acc", "Comp", "NC1", "NC2", "Acc_med", "Compc_med", "NC1c_med", "NC2c_med")
MEAN_NAMES = ("acc", "comp", "nc1", "nc2", "acc_med", "comp_med", "nc1_med", "nc2_med")


@METRICS.register_module()
class ReconstructionMetric(BaseMetric):
    """Distances between predicted and true points (7-Scenes and Neural-RGBD protocol).

    Samples carry ``gt_depths`` (S, H, W), ``cameras`` and ``trajectory`` at the size of the
    images, and ``pred_points`` (S, H, W, 3) or, with ``use_proj``, ``pred_depths`` and
    ``pred_cameras``.

    Args:
        use_proj: Take predicted points from depth and camera and align them by Umeyama's
            Sim(3) instead of by medians. Defaults to False.
        crop: Side of the square cut from the middle of each view. Defaults to 224.
        icp_threshold: Of the final point-to-point registration. Defaults to 0.1.
        out_dir: Folder; logs go to ``{out_dir}/{dataset}/logs_{rank}.txt`` and
            ``logs_all.txt``, clouds to ``{scene}.npz``. None writes none.
        **options: ``collect_device``, ``prefix``, as in mmengine.
    """

    default_prefix = "reconstruction"

    def __init__(
        self,
        use_proj: bool = False,
        crop: int = 224,
        icp_threshold: float = 0.1,
        out_dir: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.use_proj, self.crop, self.icp_threshold = use_proj, crop, icp_threshold
        self.out_dir = None if out_dir is None else Path(out_dir)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Align, register and measure each scene."""
        for sample in data_samples:
            gt, pred = self._clouds(sample)
            moved = icp(pred, gt, self.icp_threshold)
            pred = pred @ moved[:3, :3].T + moved[:3, 3]
            normals = estimate_normals(gt), estimate_normals(pred)
            accuracy = cloud_distances(pred, normals[1], gt, normals[0])
            completion = cloud_distances(gt, normals[0], pred, normals[1])
            row = {
                "acc": accuracy["mean"],
                "comp": completion["mean"],
                "nc1": accuracy["normal_mean"],
                "nc2": completion["normal_mean"],
                "acc_med": accuracy["median"],
                "comp_med": completion["median"],
                "nc1_med": accuracy["normal_median"],
                "nc2_med": completion["normal_median"],
            }
            self.results.append({"dataset": sample["dataset"], "scene": sample["sequence"], **row})
            if self.out_dir is not None:
                self._save(sample, gt, pred)

    def _clouds(self, sample: dict) -> tuple[np.ndarray, np.ndarray]:
        """Aligned true and predicted points of the middle of all views."""
        depths = sample["gt_depths"].cpu().double()
        valid = depths > 0
        gt = pixel_points(sample["cameras"].cpu(), depths)
        if self.use_proj:
            pred = pixel_points(sample["pred_cameras"].cpu(), sample["pred_depths"].cpu())
        else:
            pred = sample["pred_points"].cpu()
        pred = pred.double()
        if pred.shape != gt.shape:
            raise ValueError(
                f"{sample['sequence']}: expected true depths of the size of the predicted points "
                f"{tuple(pred.shape)}, got {tuple(depths.shape)}: load the data with "
                "resize='principal_point'"
            )
        if self.use_proj:
            pred = Sim3.from_points(pred[valid], gt[valid])(pred)
        else:
            first = sample["trajectory"].poses[0].cpu()
            aligned = align_point_maps_by_median(list(gt), first, list(pred), list(valid))
            gt, pred = torch.stack(aligned.gt), torch.stack(aligned.pred)
        middle = centre_window(depths.shape[-2:], self.crop)
        rows = (slice(None), *middle)
        mask = valid[rows]
        gt, pred = gt[rows][mask], pred[rows][mask]
        finite = pred.isfinite().all(-1)
        return gt.numpy(), pred[finite].numpy()

    def _save(self, sample: dict, gt: np.ndarray, pred: np.ndarray) -> None:
        folder = self.out_dir / sample["dataset"]
        with atomic_path(folder / f"{sample['sequence'].replace('/', '_')}.npz") as path:
            np.savez(path, gt=gt, pred=pred)
        lines = [_log_line(r) for r in self.results if r["dataset"] == sample["dataset"]]
        write_text(folder / f"logs_{get_rank()}.txt", "".join(lines))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Means over scenes; writes ``logs_all.txt`` per data set."""
        metrics = _means(results)
        if self.out_dir is not None:
            for dataset in sorted({r["dataset"] for r in results}):
                own = [r for r in results if r["dataset"] == dataset]
                means = _means(own)
                line = ", ".join(f"{name}: {value:.3f}" for name, value in means.items())
                write_text(
                    self.out_dir / dataset / "logs_all.txt",
                    "".join(map(_log_line, own)) + f"mean: {line}\n",
                )
        return metrics


def _log_line(row: dict) -> str:
    parts = [f"{name}: {row[key]}" for name, key in zip(LOG_NAMES, MEAN_NAMES)]
    return f"Idx: {row['scene']}, {', '.join(parts[:4])} - {', '.join(parts[4:])}\n"


def _means(rows: list[dict]) -> dict[str, float]:
    means = {name: math.nan for name in MEAN_NAMES} | item_means(rows, MEAN_NAMES)
    means["nc"] = (means["nc1"] + means["nc2"]) / 2
    means["nc_med"] = (means["nc1_med"] + means["nc2_med"]) / 2
    return means


def centre_window(size: Sequence[int], side: int) -> tuple[slice, slice]:
    """Rows and columns of the square in the middle (cut to the image)."""
    return tuple(
        slice(max(0, (length - side) // 2), max(0, (length - side) // 2) + min(side, length))
        for length in size
    )


def pixel_points(cameras, depths: Tensor) -> Tensor:
    """World points ``(S, H, W, 3)`` of depth maps seen by ``Cameras``, one per frame."""
    pixels = cameras.pixel_grid().to(depths)  # (H, W, 2), centres
    count = len(cameras)
    flat = pixels.reshape(1, -1, 2).expand(count, -1, -1)
    points = cameras.to(depths.dtype).unproject(flat, depths.flatten(1))
    return points.view(*depths.shape, 3)
