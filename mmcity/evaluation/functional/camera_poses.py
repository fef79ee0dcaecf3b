"""Errors of camera poses: relative angles with AUC, and trajectories with ATE and RPE."""

import torch
from torch import Tensor

from mmcity.structures import Trajectory
from mmcity.structures.geometry import rotation_angle, rotmat_to_quat, se3_inverse

EPS = 1e-15


def relative_pose_errors(pred: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
    """Angular errors of all pairs of cameras i < j.

    Args:
        pred: World to camera ``(S, 4, 4)``.
        gt: The same for the ground truth.

    Returns:
        Errors of rotation and of translation direction in degrees, ``(S (S - 1) / 2,)``;
        a direction and its opposite count as equal.
    """
    if pred.shape != gt.shape or len(gt) < 2:
        raise ValueError(
            f"expected two equal sets of at least 2 poses, got {tuple(pred.shape)}, "
            f"{tuple(gt.shape)}"
        )
    first, second = torch.triu_indices(len(gt), len(gt), offset=1)

    def relative(poses: Tensor) -> Tensor:
        poses = poses.double()
        return poses[first] @ se3_inverse(poses[second])

    pred, gt = relative(pred), relative(gt)
    dots = (rotmat_to_quat(pred[:, :3, :3]) * rotmat_to_quat(gt[:, :3, :3])).sum(-1)
    rotation = torch.arccos(1 - 2 * (1 - dots**2).clamp_min(EPS))

    def unit(poses: Tensor) -> Tensor:
        shift = poses[:, :3, 3]
        return shift / (shift.norm(dim=-1, keepdim=True) + EPS)

    dots = (unit(pred) * unit(gt)).sum(-1)
    translation = torch.arccos((1 - (1 - dots**2).clamp_min(EPS)).clamp_min(0).sqrt())
    translation = torch.rad2deg(translation)
    return torch.rad2deg(rotation), torch.minimum(translation, 180 - translation)


def accuracy_below(errors: Tensor, degrees: float) -> float:
    """Share of errors below a threshold (RRA, RTA)."""
    return float((errors < degrees).double().mean())


def pose_auc(rotation: Tensor, translation: Tensor, degrees: int = 30) -> float:
    """Area under the accuracy curve up to ``degrees``, in bins of one degree.

    The error of a pair is the larger of its two angles.
    """
    errors = torch.maximum(rotation, translation)
    edges = torch.arange(degrees + 1, dtype=errors.dtype)
    # The last bin includes its upper edge, as in a histogram.
    counts = torch.stack(
        [
            ((errors >= low) & ((errors < high) | ((high == degrees) & (errors == high)))).sum()
            for low, high in zip(edges[:-1], edges[1:])
        ]
    )
    return float((counts.double() / len(errors)).cumsum(0).mean())


def trajectory_errors(pred: Trajectory, gt: Trajectory) -> dict[str, float]:
    """ATE and RPE after one Sim(3) alignment of the positions.

    Returns:
        ``ate``: root mean square of the position residuals. ``rpe_trans`` and ``rpe_rot``
        (degrees): root mean square over the motions between consecutive frames.
    """
    if len(pred) != len(gt) or len(gt) < 3:
        raise ValueError(f"expected two paths of one length >= 3, got {len(pred)} and {len(gt)}")
    aligned = pred.transform(pred.alignment_to(gt))
    residual = (aligned.centers - gt.centers).norm(dim=-1)

    def motions(path: Trajectory) -> Tensor:
        return se3_inverse(path.poses[:-1]) @ path.poses[1:]

    true, found = motions(gt), motions(aligned)
    error = se3_inverse(true) @ found
    angle = torch.rad2deg(rotation_angle(true[:, :3, :3], found[:, :3, :3]))

    def rms(values: Tensor) -> float:
        return float((values**2).mean().sqrt())

    return {
        "ate": rms(residual),
        "rpe_trans": rms(error[:, :3, 3].norm(dim=-1)),
        "rpe_rot": rms(angle),
    }
