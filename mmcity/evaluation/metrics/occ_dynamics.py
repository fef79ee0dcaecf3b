"""Motion of generated clips, and its agreement with their conditions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from scipy.stats import wasserstein_distance

from mmcity.datasets.transforms.occupancy import planar_command, planar_trajectory, vehicle_layout
from mmcity.evaluation.functional.scene_motion import (
    register_motion,
    static_consistency,
    vehicle_statistics,
)
from mmcity.registry import METRICS
from mmcity.utils.tables import log_columns


@METRICS.register_module()
class TemporalConsistency(BaseMetric):
    """Static consistency, ego speed and vehicles of generated clips beside real ones.

    The ego motion of real and generated clips alike is found by registering the static
    voxels of their frames; ``static_iou`` is the overlap of neighbouring frames once it is
    undone. Of the vehicles, counts in a frame and speeds are compared as distributions
    (Wasserstein-1, in vehicles and metres a second).

    Args:
        voxel_size: Metres, of x and y.
        frame_time: Seconds between frames.
        register: Options of ``register_motion``. Defaults to its own.
        reach: Clips longer than twice this many frames are registered piece by piece: the
            motion between two frames from this many on either side. Defaults to 4.
        seams: Also give the static IoU where windows of a long clip meet, and elsewhere: the
            first frame of the second window and the frames between seams. Defaults to None.
        **options: ``collect_device``, ``prefix``, as in mmengine.
    """

    default_prefix = "temporal"

    def __init__(
        self,
        voxel_size: float = 0.4,
        frame_time: float = 0.1,
        register: dict | None = None,
        reach: int = 4,
        seams: tuple[int, int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.voxel_size = voxel_size
        self.frame_time = frame_time
        self.register = register or {}
        self.reach = reach
        self.seams = seams

    def _describe(self, clip: np.ndarray) -> dict[str, np.ndarray]:
        unit = self.voxel_size / self.frame_time
        if len(clip) <= 2 * self.reach:
            motion = register_motion(clip, **self.register)
            counts, speeds = vehicle_statistics(clip, motion)
            iou = static_consistency(clip, motion)
            return {
                "iou": iou,
                "ego": np.hypot(*motion.step[:2])[None] * unit,
                "counts": counts,
                "speeds": speeds * unit,
            }
        parts = {"iou": [], "ego": [], "counts": [], "speeds": []}
        for t in range(1, len(clip)):
            near = clip[max(0, t - self.reach) : t + self.reach]
            motion = register_motion(near, **self.register)
            pair = clip[t - 1 : t + 1]
            counts, speeds = vehicle_statistics(pair, motion)
            parts["iou"].append(static_consistency(pair, motion))
            parts["ego"].append([np.hypot(*motion.step[:2]) * unit])
            parts["counts"].append(counts[1:])
            parts["speeds"].append(speeds * unit)
        return {name: np.concatenate(values) for name, values in parts.items()}

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Describe one batch; ``gt_occupancy`` may be missing."""
        for sample in data_samples:
            row = {"generated": self._describe(sample["pred_occupancy"].cpu().numpy())}
            if "gt_occupancy" in sample:
                row["real"] = self._describe(sample["gt_occupancy"].cpu().numpy())
            self.results.append(row)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Means, and distances to the real clips; N is the number of clips."""
        count = len(results)
        joined, columns = {}, {}
        for name in results[0]:
            keys = ("iou", "ego", "counts", "speeds")
            whole = {k: np.concatenate([row[name][k] for row in results]) for k in keys}
            joined[name] = whole
            columns[name] = {
                f"static_iou@{count}": float(whole["iou"].mean()),
                f"ego_speed@{count}": float(whole["ego"].mean()),
                f"vehicles@{count}": float(whole["counts"].mean()),
                f"vehicle_speed@{count}": float(whole["speeds"].mean())
                if len(whole["speeds"])
                else 0.0,
            }
            if self.seams is not None:
                iou = np.stack([row[name]["iou"] for row in results])
                behind = np.arange(1, iou.shape[1] + 1) - self.seams[0]
                at_seam = (behind >= 0) & (behind % self.seams[1] == 0)
                columns[name][f"static_iou_seams@{count}"] = float(iou[:, at_seam].mean())
                columns[name][f"static_iou_within@{count}"] = float(iou[:, ~at_seam].mean())
        if "real" in joined:
            for key, name in (
                ("ego", "w1_ego_speed"),
                ("counts", "w1_vehicles"),
                ("speeds", "w1_vehicle_speed"),
            ):
                pair = [joined[n][key] for n in ("real", "generated")]
                if all(len(p) for p in pair):
                    columns["generated"][f"{name}@{count}"] = float(wasserstein_distance(*pair))
        log_columns(f"temporal, {count} clips", columns)
        metrics = dict(columns["generated"])
        metrics.update({f"real/{key}": value for key, value in columns.get("real", {}).items()})
        return metrics


@METRICS.register_module()
class ConditionFidelity(BaseMetric):
    """Do generated clips show what they were conditioned on?

    Commands and trajectories are read off the clips by registering static voxels; layouts
    are the vehicles seen from above. Beside each number stand that of the real clips (how
    well the measuring works) and that of conditions dealt out at random (chance).

    Args:
        conditions: Out of ``command``, ``layout``, ``trajectory``; read from the inputs.
        voxel_size: Metres, of x and y.
        command_options: Thresholds of ``planar_command`` that the data set has; they must be
            large enough to be seen in voxels.
        layout_down: Reduction of the layout. Defaults to 4.
        register: Options of ``register_motion``. Defaults to its own.
        seed: Of the dealing. Defaults to 0.
        **options: ``collect_device``, ``prefix``, as in mmengine.
    """

    default_prefix = "fidelity"
    CONDITIONS = ("command", "layout", "trajectory")

    def __init__(
        self,
        conditions: Sequence[str] = ("command", "layout"),
        voxel_size: float = 0.4,
        command_options: dict | None = None,
        layout_down: int = 4,
        register: dict | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        unknown = set(conditions) - set(self.CONDITIONS)
        if unknown:
            raise ValueError(f"conditions: expected of {self.CONDITIONS}, got {sorted(unknown)}")
        self.conditions = tuple(conditions)
        self.voxel_size = voxel_size
        self.command_options = command_options or {}
        self.layout_down = layout_down
        self.register = register or {}
        self.seed = seed

    def _measure(self, clip: np.ndarray) -> dict[str, np.ndarray]:
        found = {}
        if "layout" in self.conditions:
            found["layout"] = vehicle_layout(clip, self.layout_down)
        if "command" in self.conditions or "trajectory" in self.conditions:
            poses = register_motion(clip, **self.register).poses(len(clip), self.voxel_size)
            found["command"] = np.array(planar_command(poses, **self.command_options))
            found["trajectory"] = planar_trajectory(poses, "ego")
        return found

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Read conditions off one batch."""
        inputs = data_batch["inputs"]
        for i, sample in enumerate(data_samples):
            missing = [name for name in self.conditions if name not in inputs]
            if missing:
                raise KeyError(f"inputs: expected {missing}, got {sorted(inputs)}")
            row = {
                "asked": {n: torch.as_tensor(inputs[n][i]).cpu().numpy() for n in self.conditions},
                "generated": self._measure(sample["pred_occupancy"].cpu().numpy()),
            }
            if "gt_occupancy" in sample:
                row["real"] = self._measure(sample["gt_occupancy"].cpu().numpy())
            self.results.append(row)

    def _score(self, asked: list[dict], found: list[dict]) -> dict[str, float]:
        count, numbers = len(asked), {}
        if "command" in self.conditions:
            hits = [int(a["command"]) == int(f["command"]) for a, f in zip(asked, found)]
            numbers[f"command_accuracy@{count}"] = float(np.mean(hits))
            kinds = sorted({int(a["command"]) for a in asked})
            by_kind = [
                np.mean([h for h, a in zip(hits, asked) if int(a["command"]) == kind])
                for kind in kinds
            ]
            # Rare commands count as much as common ones.
            numbers[f"command_accuracy_balanced@{count}"] = float(np.mean(by_kind))
        if "layout" in self.conditions:
            a = np.stack([row["layout"] for row in asked]) > 0
            f = np.stack([row["layout"] for row in found]) > 0
            numbers[f"layout_iou@{count}"] = float((a & f).sum() / max((a | f).sum(), 1))
        if "trajectory" in self.conditions:
            error = [
                np.linalg.norm(a["trajectory"][:, :2] - f["trajectory"][:, :2], axis=1).mean()
                for a, f in zip(asked, found)
            ]
            numbers[f"trajectory_error@{count}"] = float(np.mean(error))
        return numbers

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Scores of the generated clips; N is their number."""
        asked = [row["asked"] for row in results]
        found = [row["generated"] for row in results]
        columns = {"generated": self._score(asked, found)}
        if "real" in results[0]:
            columns["real"] = self._score(asked, [row["real"] for row in results])
        order = np.random.default_rng(self.seed).permutation(len(results))
        columns["chance"] = self._score([asked[i] for i in order], found)
        log_columns(f"conditions, {len(results)} clips", columns)
        metrics = dict(columns["generated"])
        for name in ("real", "chance"):
            metrics.update({f"{name}/{k}": v for k, v in columns.get(name, {}).items()})
        return metrics
