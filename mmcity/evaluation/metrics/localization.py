"""Camera localisation: errors of single poses over a set of queries."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric

from mmcity.evaluation.functional.localization import (
    DEFAULT_THRESHOLDS,
    localization_errors,
    summarize_localization,
)
from mmcity.registry import METRICS


@METRICS.register_module()
class PoseMetric(BaseMetric):
    """Median, mean and recall of position and rotation.

    Samples carry ``camera`` (truth) and ``pred_camera``; one without a prediction counts as
    not localised. ``mse_pose`` is the mean squared difference of the twelve numbers of
    camera-to-world matrices, over localised queries.

    Args:
        unit_scale (float): Metres per scene unit. Defaults to 1.
        metric (bool): Whether that makes metres; else recalls are named by ``units``. Defaults
            to True.
        thresholds (Sequence): Pairs of metres and degrees of the recalls.
        **options: ``collect_device``, ``prefix``, as in mmengine.
    """

    default_prefix = "pose"

    def __init__(
        self,
        unit_scale: float = 1.0,
        metric: bool = True,
        thresholds: Sequence[tuple[float, float]] = DEFAULT_THRESHOLDS,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not unit_scale > 0:
            raise ValueError(f"unit_scale: expected a number above 0, got {unit_scale}")
        self.unit_scale = unit_scale
        self.unit = "m" if metric else "units"
        self.thresholds = [tuple(pair) for pair in thresholds]

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Errors of each query."""
        for row, sample in enumerate(data_samples):
            name = sample.get("img_name", f"query {len(self.results) + row}")
            if sample.get("pred_camera") is None:
                self.results.append((name, float("inf"), float("inf"), float("nan")))
                continue
            poses = sample["pred_camera"].cpu().cam_to_world.double()
            truth = sample["camera"].cpu().cam_to_world.double()
            distance, angle = localization_errors(poses, truth)
            square = float((poses - truth)[:, :3].square().mean())
            self.results.append((name, self.unit_scale * float(distance), float(angle), square))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """See :func:`summarize_localization`."""
        values = torch.tensor([row[1:] for row in results], dtype=torch.float64)
        out = summarize_localization(values[:, 0], values[:, 1], self.thresholds, self.unit)
        out["localized"] = float(values[:, 0].isfinite().double().mean())
        out["mse_pose"] = float(values[:, 2].nanmean())
        return out
