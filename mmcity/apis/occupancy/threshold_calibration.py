"""Choosing the density above which a voxel is occupied, on frames with ground truth."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from mmcity.engine.launch import load_config
from mmcity.models.gausstr import Vocabulary, save_vocabulary
from mmcity.models.gausstr.labelling import label_voxels

from .occupancy_predictor import OccupancyPredictor


def default_candidates() -> list[float]:
    """Densities that are tried: 24 from 0.01 to 2, in equal ratios."""
    return torch.logspace(-2, 0.30103, 24).tolist()


@dataclass
class CalibrationResult:
    """Best thresholds and the scores that they reach on the calibration frames.

    Attributes:
        density_threshold: For all classes.
        class_thresholds: By label, where a higher one is better for the class.
        iou_before, iou_after: Occupied against free, percent.
        miou_before, miou_after: Mean over the classes that occur, percent.
        frames: Calibration frames.
    """

    density_threshold: float
    class_thresholds: dict[int, float]
    iou_before: float
    iou_after: float
    miou_before: float
    miou_after: float
    frames: int


class ThresholdCalibrator:
    """Counts, for every candidate, what it would leave occupied; frames are seen once.

    The winning class of a voxel does not depend on its density, so the best threshold of each
    class is found by itself.

    Args:
        vocabulary: In use.
        num_classes: Labels, free included. Defaults to 18.
        candidates: Thresholds to try. Defaults to :func:`default_candidates`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        num_classes: int = 18,
        candidates: Sequence[float] | None = None,
    ) -> None:
        self.vocabulary = vocabulary
        own = [vocabulary.density_threshold, *vocabulary.class_thresholds.values()]
        self.candidates = torch.tensor(sorted({*own, *(candidates or default_candidates())}))
        self.num_classes, self.frames = num_classes, 0
        # Voxels by winning label, ground truth and the number of candidates that they exceed.
        levels = len(self.candidates) + 1
        self.counts = torch.zeros(num_classes, num_classes, levels, dtype=torch.long)

    def add(self, density: Tensor, prompts: Tensor, target: Tensor, valid: Tensor) -> None:
        """Count a frame.

        Args:
            density: ``(X, Y, Z, 1)``.
            prompts: Voxelised prompt probabilities ``(X, Y, Z, P)``.
            target: Labels ``(X, Y, Z)``.
            valid: Bool ``(X, Y, Z)``, voxels that count.
        """
        self.frames += 1
        everything = replace(self.vocabulary, density_threshold=-1.0, class_thresholds={})
        winners = label_voxels(density[None], prompts[None], everything)[0]
        valid = valid & (target < self.num_classes)
        # A candidate equal to the density leaves the voxel free.
        level = torch.searchsorted(self.candidates, density[..., 0][valid].cpu())
        levels = self.counts.shape[2]
        index = (winners[valid].cpu() * self.num_classes + target[valid].long().cpu()) * levels
        index = index + level
        self.counts += torch.bincount(index, minlength=self.counts.numel()).view_as(self.counts)

    def _occupied(self) -> Tensor:
        """Voxels that stay occupied at each candidate, ``(winner, target, candidate)``."""
        return self.counts.flip(2).cumsum(2).flip(2)[..., 1:]

    def _scores(self, chosen: Sequence[int]) -> tuple[float, float]:
        """IoU and mIoU with one candidate per label."""
        free, kept = self.vocabulary.free_label, self._occupied()
        total = self.counts.sum(dim=(0, 2))  # of each ground truth label
        confusion = torch.stack([kept[c, :, chosen[c]] for c in range(self.num_classes)])
        confusion[free] = 0  # a winner that means free is never occupied
        predicted, hits = confusion.sum(1), confusion.diagonal()
        ious = 100.0 * hits / (predicted + total - hits).clamp(min=1)
        occurs = (predicted + total) > 0
        occurs[free] = False
        occupied = confusion.sum() - confusion[:, free].sum()
        union = confusion.sum() + total.sum() - total[free] - occupied
        return float(100.0 * occupied / union.clamp(min=1)), float(ious[occurs].mean())

    def _index(self, threshold: float) -> int:
        return int((self.candidates - threshold).abs().argmin())

    def result(self) -> CalibrationResult:
        """Best thresholds over all frames.

        Raises:
            RuntimeError: If no frame was counted.
        """
        if not self.counts.any():
            raise RuntimeError("calibration: expected frames with ground truth, got no voxel")
        words, kept = self.vocabulary, self._occupied()
        base = self._index(words.density_threshold)
        before = [base] * self.num_classes
        for label, threshold in words.class_thresholds.items():
            before[label] = max(base, self._index(threshold))
        every = range(len(self.candidates))
        best = max(every, key=lambda i: self._scores([i] * self.num_classes)[0])
        chosen, total = [best] * self.num_classes, self.counts.sum(dim=(0, 2))
        for label in range(self.num_classes):
            if label == words.free_label or total[label] == 0:
                continue
            hits = kept[label, label, best:].double()
            union = kept[label, :, best:].sum(0) + total[label] - hits
            chosen[label] = best + int((hits / union.clamp(min=1)).argmax())
        values = self.candidates.tolist()
        iou_before, miou_before = self._scores(before)
        iou_after, miou_after = self._scores(chosen)
        return CalibrationResult(
            values[best],
            {c: values[i] for c, i in enumerate(chosen) if i != best},
            iou_before,
            iou_after,
            miou_before,
            miou_after,
            self.frames,
        )

    def add_frames(self, frames: Iterable[tuple[Tensor, Tensor, Tensor, Tensor]]) -> None:
        """Count several frames; see :meth:`add`."""
        for frame in frames:
            self.add(*frame)


def calibrate_thresholds(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    split: str = "train",
    frames: int = 20,
    cfg_options: Mapping[str, object] | None = None,
) -> CalibrationResult:
    """Best density thresholds of a GaussTR model, written as a vocabulary.

    Args:
        config: Of the model.
        checkpoint: Its weights.
        out: Vocabulary (YAML) to write.
        split: ``train``, ``val`` or ``test``: frames with ground truth, best of a split that
            results are not reported on. Defaults to ``train``.
        frames: Key frames, evenly chosen. Defaults to 20.
        cfg_options: Dotted keys of the config and their values. Defaults to None.
    """
    cfg = load_config(config, cfg_options)
    # The training pipeline has no ground truth; the test pipeline reads any split.
    cfg.test_dataloader.dataset.ann_file = cfg[f"{split}_dataloader"].dataset.ann_file
    predictor = OccupancyPredictor(cfg, checkpoint)
    vocabulary = predictor.model.gauss_heads[-1].vocabulary
    count = predictor.count_frames("test")
    chosen = np.unique(np.linspace(0, count - 1, min(frames, count)).astype(int))

    def volumes_of_frames() -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        for index in track(chosen, description="frames"):
            volumes, sample = predictor.predict_volumes(int(index), "test")
            yield (
                volumes["density"][0],
                volumes["prompts"][0],
                sample.gt_occupancy,
                sample.mask_camera.bool(),
            )

    calibrator = ThresholdCalibrator(vocabulary)
    calibrator.add_frames(volumes_of_frames())
    result = calibrator.result()
    save_vocabulary(out, vocabulary, result.density_threshold, result.class_thresholds)
    return result
