"""Camera poses: relative angles over pairs, and trajectories."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric

from mmcity.evaluation.functional.camera_poses import (
    accuracy_below,
    pose_auc,
    relative_pose_errors,
    trajectory_errors,
)
from mmcity.evaluation.functional.means import item_means, tell_left_out
from mmcity.registry import METRICS


@METRICS.register_module()
class RelativePoseMetric(BaseMetric):
    """AUC of relative poses, averaged over categories (Co3D protocol).

    Samples carry ``trajectory`` and ``pred_trajectory``; the category is the first part of
    the sequence's name.

    Args:
        auc_degrees: Upper ends of the areas. Defaults to (30, 15, 5, 3).
        accuracy_degrees: Threshold of ``RRA`` and ``RTA``. Defaults to 5.
        **options: ``collect_device``, ``prefix``, as in mmengine.
    """

    default_prefix = "pose"

    def __init__(
        self,
        auc_degrees: Sequence[int] = (30, 15, 5, 3),
        accuracy_degrees: float = 5,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.auc_degrees, self.accuracy_degrees = tuple(auc_degrees), accuracy_degrees

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Angular errors of all pairs of each sequence."""
        for sample in data_samples:
            known = sample["trajectory"].poses.isfinite().all(-1).all(-1)
            errors = relative_pose_errors(
                sample["pred_trajectory"][known].viewmats.cpu(),
                sample["trajectory"][known].viewmats.cpu(),
            )
            category = sample["sequence"].split("/")[0]
            self.results.append((category, torch.stack(errors)))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """``AUC@T``, ``RRA@t``, ``RTA@t`` in [0, 1]."""
        pairs = defaultdict(list)
        for category, errors in results:
            pairs[category].append(errors)
        rows = []
        for parts in pairs.values():
            rotation, translation = torch.cat(parts, dim=1)
            row = {f"AUC@{t}": pose_auc(rotation, translation, t) for t in self.auc_degrees}
            threshold = self.accuracy_degrees
            row[f"RRA@{threshold:g}"] = accuracy_below(rotation, threshold)
            row[f"RTA@{threshold:g}"] = accuracy_below(translation, threshold)
            rows.append(row)
        return item_means(rows, rows[0])


@METRICS.register_module()
class TrajectoryMetric(BaseMetric):
    """ATE and RPE after Sim(3) alignment, mean over sequences.

    Samples carry ``trajectory`` and ``pred_trajectory``.
    """

    default_prefix = "trajectory"

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Errors of each sequence."""
        for sample in data_samples:
            row: dict = {"sequence": str(sample.get("sequence"))}
            try:
                row |= trajectory_errors(
                    sample["pred_trajectory"].cpu(), sample["trajectory"].cpu()
                )
            except ValueError as error:
                row["left_out"] = str(error)
            self.results.append(row)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """``ate``, ``rpe_trans`` (scene units), ``rpe_rot`` (degrees) and ``n_sequences``.

        Sequences that cannot be aligned are named and do not count.
        """
        left_out = {r["sequence"]: r["left_out"] for r in results if "left_out" in r}
        tell_left_out(left_out, len(results), "sequences")
        measured = [r for r in results if "left_out" not in r]
        means = item_means(measured, ("ate", "rpe_trans", "rpe_rot"))
        return {**means, "n_sequences": len(measured), "n_left_out": len(left_out)}
