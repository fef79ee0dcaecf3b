"""Distances between generated and real occupancy: pictures, voxels, whole clips.

The real clips are the data set's; a generated one comes with each (``pred_occupancy``). The
number of frames is part of a metric's name, since the distances depend on it, and beside
the generated clips stand other real ones, real ones with their columns shuffled, and noise.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mmcity.evaluation.functional.generation import (
    frechet_distance,
    inception_score,
    precision_recall,
    subset_kernel_distance,
)
from mmcity.registry import DATASETS, METRICS, TASK_UTILS
from mmcity.structures import render_birds_eye, render_oblique
from mmcity.utils.tables import log_columns

#: Neighbours of the balls of precision and recall.
_NEIGHBOURS = 3


def shuffle_columns(clip: Tensor, generator: torch.Generator) -> Tensor:
    """Clip ``(T, X, Y, Z)`` with the columns of each frame in random places."""
    frames, x, y, z = clip.shape
    flat = clip.reshape(frames, x * y, z)
    order = torch.stack([torch.randperm(x * y, generator=generator) for _ in range(frames)])
    order = order[..., None].expand(-1, -1, z).to(clip.device)
    return flat.gather(1, order).view(clip.shape)


def noise_clip(clip: Tensor, generator: torch.Generator) -> Tensor:
    """Clip of the same class shares without any order: all voxels of a frame shuffled."""
    flat = clip.flatten(1)
    order = torch.stack([torch.randperm(flat.shape[1], generator=generator) for _ in flat])
    return flat.gather(1, order.to(clip.device)).view(clip.shape)


class _GenerationMetric(BaseMetric):
    """Collects features of real, generated and baseline clips.

    Args:
        baselines: Which of ``real``, ``shuffled`` (columns of each frame in random places)
            and ``noise`` (voxels in random places) stand beside. Defaults to all.
        reference: Data set config of other real clips, for the baseline ``real``.
        num: Frames to compare. Defaults to None (all).
        splits: Of the inception score. Defaults to 10.
        seed: Of all draws. Defaults to 0.
        **options: ``collect_device``, ``prefix``, as in mmengine.
    """

    #: Sets beside the generated one, and what they are made of.
    BASELINES = ("real", "shuffled", "noise")

    def __init__(
        self,
        baselines: Sequence[str] = BASELINES,
        reference: dict | None = None,
        num: int | None = None,
        splits: int = 10,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        unknown = set(baselines) - set(self.BASELINES)
        if unknown:
            raise ValueError(f"baselines: expected some of {self.BASELINES}, got {sorted(unknown)}")
        if "real" in baselines and reference is None:
            raise ValueError("reference: expected a data set for the baseline 'real', got none")
        self.baselines = tuple(baselines)
        self.reference = reference
        self.num = num
        self.splits = splits
        self.seed = seed
        self.device = torch.device("cpu")  # of the networks: where the predictions are

    def _clip_features(self, clip: Tensor) -> dict[str, Tensor]:
        """Features by name, one row a frame."""
        raise NotImplementedError

    def _compare(self, real: dict, fake: dict, frames: int) -> dict[str, float]:
        raise NotImplementedError

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Features of one batch; samples carry ``pred_occupancy`` and ``gt_occupancy``."""
        for sample in data_samples:
            self.device = sample["pred_occupancy"].device
            real, fake = sample["gt_occupancy"].cpu(), sample["pred_occupancy"].cpu()
            if real.shape != fake.shape:
                raise ValueError(
                    f"generated clip: expected {tuple(real.shape)}, got {tuple(fake.shape)}"
                )
            row = {"data": self._clip_features(real), "generated": self._clip_features(fake)}
            generator = torch.Generator().manual_seed(self.seed + len(self.results))
            if "shuffled" in self.baselines:
                row["shuffled"] = self._clip_features(shuffle_columns(real, generator))
            if "noise" in self.baselines:
                row["noise"] = self._clip_features(noise_clip(real, generator))
            self.results.append(row)

    def _reference_rows(self, count: int) -> list[dict[str, Tensor]]:
        """Features of ``count`` clips, spread over the reference data set."""
        dataset = DATASETS.build(self.reference)
        if len(dataset) < count:
            raise ValueError(
                f"reference: expected at least {count} clips, as many as are compared, got "
                f"{len(dataset)}: shorten the test set (`data_length`) or give a larger reference"
            )
        picked = np.linspace(0, len(dataset) - 1, count).round().astype(int)
        return [self._clip_features(dataset[int(i)]["inputs"]["voxels"]) for i in picked]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """All numbers of the generated clips, and those of the baselines under their name."""
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(results), generator=generator).tolist()
        rows = [results[i] for i in order]
        if self.num is not None:
            per_clip = len(next(iter(rows[0]["data"].values())))
            rows = rows[: max(1, self.num // per_clip)]
        sets = {name: [row[name] for row in rows] for name in rows[0]}
        if "real" in self.baselines:
            sets["real"] = self._reference_rows(len(rows))
        joined = {name: list(parts) for name, parts in sets.items()}
        real = joined.pop("data")
        frames = sum(len(next(iter(part.values()))) for part in real)
        metrics, columns = {}, {}
        for name in ("real", "generated", "shuffled", "noise"):
            if name in joined:
                columns[name] = self._compare(real, joined[name], frames)
                head = "" if name == "generated" else f"{name}/"
                metrics.update({f"{head}{key}": value for key, value in columns[name].items()})
        log_columns(f"{self._title()}, {frames} frames of each", columns)
        return metrics

    def _title(self) -> str:
        return type(self).__name__

    def _distances(
        self, real: Tensor, fake: Tensor, logits: Tensor, kind: str, frames: int
    ) -> dict[str, float]:
        """FID, KID, IS, precision and recall, N in the name."""
        kid, _ = subset_kernel_distance(real, fake, seed=self.seed)
        score, _ = inception_score(logits, min(self.splits, len(logits)))
        precision, recall = precision_recall(real, fake, _NEIGHBOURS)
        return {
            f"FID{kind}@{frames}": frechet_distance(real, fake),
            f"KID{kind}@{frames}": kid,
            f"IS{kind}@{frames}": score,
            f"precision{kind}@{frames}": precision,
            f"recall{kind}@{frames}": recall,
        }


def _stack(parts: list[dict[str, Tensor]], key: str) -> Tensor:
    return torch.cat([part[key] for part in parts])


@METRICS.register_module()
class OccGenMetric3D(_GenerationMetric):
    """Generated against real clips in the features of a 3D network.

    Besides the distances of frames there is ``FVD``: the Frechet distance of whole clips,
    each described by mean and deviation over time of its frames' features.

    Args:
        extractor: Config of a feature extractor on voxels (``OccNetFeatures``,
            ``RandomVoxelFeatures``).
        **options: ``baselines``, ``reference``, ``num``, ``splits``, ``seed``, as in
            :class:`_GenerationMetric`, ``collect_device``, ``prefix``.
    """

    default_prefix = "gen3d"

    def __init__(self, extractor: dict, **options: Any) -> None:
        super().__init__(**options)
        self.extractor = TASK_UTILS.build(extractor)

    def _title(self) -> str:
        return f"3D features {self.extractor.name} ({self.extractor.checksum})"

    def _clip_features(self, clip: Tensor) -> dict[str, Tensor]:
        features, logits = self.extractor(clip, self.device)
        return {"features": features, "logits": logits}

    def _compare(self, real: list, fake: list, frames: int) -> dict[str, float]:
        numbers = self._distances(
            _stack(real, "features"), _stack(fake, "features"), _stack(fake, "logits"), "3D", frames
        )
        clips = [
            torch.stack(
                [
                    torch.cat([p["features"].mean(0), p["features"].std(0, unbiased=False)])
                    for p in parts
                ]
            )
            for parts in (real, fake)
        ]
        if len(clips[0]) > 1:
            numbers[f"FVD@{len(clips[0])}"] = frechet_distance(*clips)
        return numbers


@METRICS.register_module()
class OccGenMetric2D(_GenerationMetric):
    """Generated against real clips in the features of rendered pictures.

    Args:
        extractor: Config of a feature extractor on images, for FID, KID and IS
            (``ScriptedImageFeatures`` with InceptionV3, ``RandomImageFeatures``).
        pr_extractor: Another one for precision and recall (VGG-16). Defaults to None (the
            same).
        views: ``birds_eye`` and ``oblique``; numbers are given for each and averaged.
        scale: Pixels of a voxel in the bird's-eye view. Defaults to 4.
        **options: As in :class:`OccGenMetric3D`.
    """

    default_prefix = "gen2d"
    RENDERERS = {"birds_eye": render_birds_eye, "oblique": render_oblique}

    def __init__(
        self,
        extractor: dict,
        pr_extractor: dict | None = None,
        views: Sequence[str] = ("birds_eye", "oblique"),
        scale: int = 4,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        unknown = set(views) - set(self.RENDERERS)
        if unknown or not views:
            raise ValueError(f"views: expected of {sorted(self.RENDERERS)}, got {tuple(views)}")
        self.views = tuple(views)
        self.scale = scale
        self.extractor = TASK_UTILS.build(extractor)
        self.pr_extractor = None if pr_extractor is None else TASK_UTILS.build(pr_extractor)

    def _title(self) -> str:
        return f"2D features {self.extractor.name} ({self.extractor.checksum})"

    def _images(self, clip: Tensor, view: str) -> Iterator[np.ndarray]:
        scale = self.scale if view == "birds_eye" else max(self.scale // 2, 1)
        for frame in clip.numpy():
            yield self.RENDERERS[view](frame, scale=scale)

    def _clip_features(self, clip: Tensor) -> dict[str, Tensor]:
        row = {}
        for view in self.views:
            images = torch.from_numpy(np.stack(list(self._images(clip, view))))
            row[view], row[f"{view}/logits"] = self.extractor(images, self.device)
            if self.pr_extractor is not None:
                row[f"{view}/pr"] = self.pr_extractor(images, self.device)[0]
        return row

    def _compare(self, real: list, fake: list, frames: int) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for view in self.views:
            part = self._distances(
                _stack(real, view), _stack(fake, view), _stack(fake, f"{view}/logits"), "2D", frames
            )
            if self.pr_extractor is not None:
                key = f"{view}/pr"
                both = precision_recall(_stack(real, key), _stack(fake, key), _NEIGHBOURS)
                part.update(zip((f"precision2D@{frames}", f"recall2D@{frames}"), both))
            if len(self.views) > 1:
                numbers.update({f"{view}/{key}": value for key, value in part.items()})
            for key, value in part.items():
                numbers[key] = numbers.get(key, 0.0) + value / len(self.views)
        return numbers
