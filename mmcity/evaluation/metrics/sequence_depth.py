"""Monocular and video depth, with the result files of the streaming benchmarks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from PIL import Image
from torch import Tensor

from mmcity.evaluation.functional.depth import (
    ALIGNMENTS,
    DEPTH_METRICS,
    average_depth_metrics,
    evaluate_depth,
)
from mmcity.registry import METRICS
from mmcity.utils.checks import check_choice
from mmcity.utils.fileio import atomic_path, write_json, write_npy


@METRICS.register_module()
class SequenceDepthMetric(BaseMetric):
    """Errors of predicted depth after alignment.

    Samples carry ``gt_depths`` (S, H, W) and ``pred_depths`` (S, h, w); predictions are
    resized to the ground truth by cubic interpolation first. The mean over the data set is
    weighted by valid pixels.

    Args:
        suite: ``'mono'`` aligns each frame and writes ``monodepth/{data}_{model}/metric.json``;
            ``'video'`` aligns each sequence and writes
            ``video_depth/{data}_{model}/result_{alignment}.json``.
        alignment: See :func:`align_depth`. Defaults to ``'median'`` (mono) or ``'scale'``.
        max_depth: True depths at or above it are invalid. Defaults to None.
        post_clip: Aligned depths are cut at it. Defaults to None.
        out_dir: Folder for result files (``eval_results`` by custom). None writes none.
        model_name: Part of the folder names. Defaults to ``'streamvggt'``.
        save_maps: Also write every predicted map as ``.npy`` and ``.png``.
            Defaults to False.
        **options: ``collect_device``, ``prefix``, as in mmengine.
    """

    default_prefix = "depth"

    def __init__(
        self,
        suite: str = "video",
        alignment: str | None = None,
        max_depth: float | None = None,
        post_clip: float | None = None,
        out_dir: str | None = None,
        model_name: str = "streamvggt",
        save_maps: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_choice("suite", suite, ("mono", "video"))
        self.suite = suite
        self.alignment = alignment or ("median" if suite == "mono" else "scale")
        check_choice("alignment", self.alignment, ALIGNMENTS)
        self.max_depth, self.post_clip = max_depth, post_clip
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.model_name, self.save_maps = model_name, save_maps

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Measure one batch."""
        for sample in data_samples:
            gt = sample["gt_depths"].cpu()
            pred = resize_depths(sample["pred_depths"].cpu().float(), gt.shape[-2:])
            units = [(pred, gt)] if self.suite == "video" else list(zip(pred, gt))
            for one_pred, one_gt in units:
                self.results.append(
                    {
                        "dataset": sample["dataset"],
                        "sequence": sample["sequence"],
                        **evaluate_depth(
                            one_pred, one_gt, self.alignment, self.max_depth, self.post_clip
                        ),
                    }
                )
            if self.save_maps and self.out_dir is not None:
                self._save_maps(sample, pred)

    def folder(self, dataset: str) -> Path:
        """Folder for the files of a data set."""
        suite = "monodepth" if self.suite == "mono" else "video_depth"
        return self.out_dir / suite / f"{dataset}_{self.model_name}"

    def _save_maps(self, sample: dict, pred: Tensor) -> None:
        folder = self.folder(sample["dataset"]) / sample["sequence"]
        for number, name, depth in zip(sample["frame_numbers"], sample["img_names"], pred.numpy()):
            stem = f"{name}depth" if self.suite == "mono" else f"frame_{number:04d}"
            write_npy(folder / f"{stem}.npy", depth)
            span = max(float(depth.max() - depth.min()), 1e-6)
            grey = ((depth - depth.min()) / span * 255).astype(np.uint8)
            with atomic_path(folder / f"{stem}.png") as path:
                Image.fromarray(grey).save(path)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Means over the data set; writes the result file."""
        metrics = average_depth_metrics(results)
        if self.out_dir is not None:
            name = "metric" if self.suite == "mono" else f"result_{self.alignment}"
            target = self.folder(results[0]["dataset"]) / f"{name}.json"
            write_json(target, {key: metrics[key] for key in DEPTH_METRICS})
        return metrics


def resize_depths(depths: Tensor, size: Sequence[int]) -> Tensor:
    """Maps ``(S, h, w)`` at another (height, width), by cubic interpolation."""
    if tuple(depths.shape[-2:]) == tuple(size):
        return depths
    height, width = size
    maps = [
        cv2.resize(depth, (width, height), interpolation=cv2.INTER_CUBIC)
        for depth in depths.numpy()
    ]
    return torch.from_numpy(np.stack(maps))
