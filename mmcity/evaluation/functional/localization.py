"""Errors of single estimated camera poses."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmcity.structures.geometry import rotation_angle

#: Metres and degrees of the usual recall tables: indoor, then outdoor.
DEFAULT_THRESHOLDS = (
    (0.01, 1.0),
    (0.02, 2.0),
    (0.05, 5.0),
    (0.1, 5.0),
    (0.25, 2.0),
    (0.5, 5.0),
    (5.0, 10.0),
)


def localization_errors(poses: Tensor, gt_poses: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of centres and angle of rotations.

    Args:
        poses (Tensor): ``(N, 3, 4)`` or ``(N, 4, 4)``, camera to world.
        gt_poses (Tensor): The same.

    Returns:
        tuple[Tensor, Tensor]: Scene units and degrees, ``(N,)`` float64.
    """
    poses = poses.double()
    gt_poses = gt_poses.to(poses)
    distance = (poses[..., :3, 3] - gt_poses[..., :3, 3]).norm(dim=-1)
    angle = rotation_angle(gt_poses[..., :3, :3], poses[..., :3, :3])
    return distance, torch.rad2deg(angle)


def confidence_auc(confidence: Tensor, is_good: Tensor) -> float:
    """Probability that a good pose has a higher confidence than a bad one.

    The area under the ROC curve by ranks; equal confidences count half.

    Args:
        confidence (Tensor): ``(N,)``.
        is_good (Tensor): ``(N,)`` bool.

    Returns:
        float: In [0, 1]; NaN if all poses are good, or all bad.
    """
    good, bad = confidence[is_good].double(), confidence[~is_good].double()
    if not len(good) or not len(bad):
        return float("nan")
    gaps = good[:, None] - bad[None]
    return float(((gaps > 0).double() + 0.5 * (gaps == 0).double()).mean())


def summarize_localization(
    translation: Tensor,
    rotation: Tensor,
    thresholds: Sequence[tuple[float, float]] = DEFAULT_THRESHOLDS,
    unit: str = "m",
) -> dict[str, float]:
    """Median, mean, extremes, and the share of queries below pairs of thresholds.

    A query that was not localised has infinite errors: it counts against every recall and
    pulls the median, while means and extremes are then infinite.

    Args:
        translation (Tensor): ``(N,)`` metres (or scene units).
        rotation (Tensor): ``(N,)`` degrees.
        thresholds (Sequence): Pairs of metres (or scene units) and degrees.
        unit (str): Of positions, in the names of the recalls. Defaults to ``m``.
    """
    if not len(translation):
        raise ValueError("expected the errors of at least one query, got none")
    out = {}
    for name, errors in (("trans", translation), ("rot", rotation)):
        values = errors.double().cpu().numpy()
        out[f"median_{name}"] = float(np.median(values))
        out[f"mean_{name}"] = float(values.mean())
        out[f"max_{name}"] = float(values.max())
        out[f"min_{name}"] = float(values.min())
    for distance, degrees in thresholds:
        below = (translation < distance) & (rotation < degrees)
        out[f"recall_{distance:g}{unit}_{degrees:g}deg"] = float(below.double().mean())
    return out
