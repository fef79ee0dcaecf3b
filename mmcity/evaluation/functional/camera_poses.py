"""Errors of camera poses: relative angles with AUC, and trajectories with ATE and RPE."""

import torch
from torch import Tensor

from mmcity.structures import Sim3, Trajectory
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

    Frames whose true pose is not finite (ScanNet writes ``-inf``) do not count. On a straight
    path the turn about it is free; no error depends on it.

    Returns:
        ``ate``: root mean square of the position residuals. ``rpe_trans`` and ``rpe_rot``
        (degrees): root mean square over the motions between consecutive frames.

    Raises:
        ValueError: If fewer than three frames count, a predicted pose is not finite, or a path
            stands in one place, so that it has no scale.
    """
    if len(pred) != len(gt):
        raise ValueError(f"expected two paths of one length, got {len(pred)} and {len(gt)}")
    known = gt.poses.isfinite().all(-1).all(-1)
    pred, gt = pred[known], gt[known]
    if len(gt) < 3:
        raise ValueError(f"expected at least 3 frames with a true pose, got {len(gt)}")
    if not bool(pred.poses.isfinite().all()):
        raise ValueError("expected finite predicted poses, got NaN or infinity")
    for name, path in (("true", gt), ("predicted", pred)):
        spread = (path.centers - path.centers[:1]).norm(dim=-1).max()
        if not bool(spread > 1e-9 * path.centers.abs().max().clamp_min(1e-12)):
            raise ValueError(f"the {name} path stands in one place, which has no scale")
    similarity = Sim3.from_points(pred.centers, gt.centers, on_line=True)
    aligned = pred.transform(similarity)
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
