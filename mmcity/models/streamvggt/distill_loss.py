"""The objective that teaches the causal model the outputs of the bidirectional one."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcity.models.losses import masked_mean
from mmcity.registry import MODELS
from mmcity.utils.checks import check_choice

from .relative_pose_loss import relative_pose_loss

Frames = Sequence[Mapping[str, Tensor]]


MIN_DEPTH = 1e-4  # in units of the mean distance


def huber(error: Tensor, delta: float = 0.1) -> Tensor:
    """Mean of ``e^2 / (2 delta)`` up to ``delta`` and ``|e| - delta / 2`` beyond."""
    size = error.abs()
    return torch.where(size <= delta, size**2 / (2 * delta), size - delta / 2).mean()


def mean_distance(values: Tensor, mask: Tensor) -> Tensor:
    """Mean length of the masked vectors ``(B, H, W, C)`` per sample, in [1e-3, 1e3]; ``(B,)``."""
    length = values.norm(dim=-1)
    total = (length * mask).sum((1, 2))
    return (total / (mask.sum((1, 2)) + 1e-3)).clamp(1e-3, 1e3)


def fit_scale_shift(
    pred: Tensor, target: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Least-squares scale (one number) and shift (per channel) of ``(..., C)`` values.

    Args:
        pred: To be aligned.
        target: Same shape.
        mask: Which entries take part, ``(...)``; all by default, as in the published recipe.
    """
    pred, target = pred.flatten(0, -2), target.flatten(0, -2)
    if mask is None:
        mean_p, mean_t = pred.mean(0), target.mean(0)
        centred_p, centred_t = pred - mean_p, target - mean_t
    else:
        mask = mask.flatten()[:, None]
        count = mask.sum()
        mean_p, mean_t = ((values * mask).sum(0) / count for values in (pred, target))
        centred_p, centred_t = (pred - mean_p) * mask, (target - mean_t) * mask
    scale = (centred_p * centred_t).sum() / centred_p.square().sum().clamp_min(1e-6)
    return scale, mean_t - scale * mean_p


def surface_normals(points: Tensor) -> Tensor:
    """Unit normals of a point map ``(B, H, W, 3)`` from four pairs of neighbours.

    Returns:
        ``(4, B, H, W, 3)``: up x left, left x down, down x right, right x up; neighbours
        beyond the border are the origin.
    """
    padded = F.pad(points, (0, 0, 1, 1, 1, 1))
    centre = padded[:, 1:-1, 1:-1]
    up, down = padded[:, :-2, 1:-1] - centre, padded[:, 2:, 1:-1] - centre
    left, right = padded[:, 1:-1, :-2] - centre, padded[:, 1:-1, 2:] - centre
    pairs = ((up, left), (left, down), (down, right), (right, up))
    normals = torch.stack([torch.linalg.cross(a, b) for a, b in pairs])
    return F.normalize(normals, dim=-1, eps=1e-6)


def relative_error(log_ratio: Tensor) -> Tensor:
    """``|exp(log_ratio) - 1|``, continued linearly from 1 on, where it would explode."""
    inner = log_ratio.clamp_max(1.0)
    return inner.expm1().abs() + math.e * (log_ratio - inner)


def depth_gradient_loss(pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """L1 of neighbour differences of ``(B, H, W, 1)`` maps where both pixels are valid."""
    error = (pred - target)[..., 0]
    across = (error[:, :-1, 1:] - error[:, :-1, :-1]).abs() * (mask[:, :-1, 1:] & mask[:, :-1, :-1])
    along = (error[:, 1:, :-1] - error[:, :-1, :-1]).abs() * (mask[:, 1:, :-1] & mask[:, :-1, :-1])
    return 0.5 * (across.mean() + along.mean())


def normal_loss(pred: Tensor, target: Tensor, corner_safe: bool) -> Tensor:
    """One minus the mean cosine between normals, averaged over strides 1, 2 and 4."""
    terms = []
    for stride in (1, 2, 4):
        cosine = F.cosine_similarity(
            surface_normals(pred[:, ::stride, ::stride]),
            surface_normals(target[:, ::stride, ::stride]),
            dim=-1,
        )  # (4, B, h, w)
        if corner_safe:
            # There both neighbours are the origin: the cross product is rounding noise.
            keep = torch.ones_like(cosine)
            for direction, (row, column) in enumerate(((0, 0), (-1, 0), (-1, -1), (0, -1))):
                keep[direction, :, row, column] = 0
            cosine = cosine * keep
        terms.append(1 - cosine.mean())
    return sum(terms) / len(terms)


@MODELS.register_module()
class DistillationLoss(nn.Module):
    """Camera, depth, point-map and track terms of StreamVGGT (arXiv 2507.11539).

    The teacher's outputs are the targets; the valid mask comes from the data, and a view
    whose mask is empty in the whole batch uses all pixels.

    Args:
        camera_weight: Defaults to 20.
        depth_weight: Defaults to 20.
        points_weight: Defaults to 10.
        track_weight: Defaults to 0.5.
        confidence_weight: Of ``-log(confidence)``. Defaults to 0.1.
        corner_safe: Leave the four ill-defined corner normals out. Defaults to True.
        alignment: ``'batch'`` fits scale and shift over the whole batch and all pixels, as
            published; ``'sample'`` over the valid pixels of each sample; ``'none'`` compares
            the values as they are, without normalisation, so that depth, points and camera
            keep one scale. Defaults to ``'batch'``.
        log_depth: Compare logarithms of depth, which weighs near and far alike (with
            ``alignment='none'`` only). Defaults to False.
        relative_share: Share of the relative error in that of ``log_depth``; it punishes depths
            that are too large more than those that are too small. Defaults to 0.
        normal_weight: Of the normal term of the points. Defaults to 1.
        relative_pose_weight: Of :func:`relative_pose_loss`, an addition to the published terms
            for small models; the sum is ``loss_relative_pose``. Defaults to 0.
        upstream_visibility: Apply the logit loss to probabilities, as published.
            Defaults to False.
    """

    def __init__(
        self,
        camera_weight: float = 20.0,
        depth_weight: float = 20.0,
        points_weight: float = 10.0,
        track_weight: float = 0.5,
        confidence_weight: float = 0.1,
        corner_safe: bool = True,
        alignment: str = "batch",
        log_depth: bool = False,
        relative_share: float = 0.0,
        normal_weight: float = 1.0,
        relative_pose_weight: float = 0.0,
        upstream_visibility: bool = False,
    ) -> None:
        super().__init__()
        self.camera_weight = camera_weight
        self.depth_weight = depth_weight
        self.points_weight = points_weight
        self.track_weight = track_weight
        self.confidence_weight = confidence_weight
        self.corner_safe = corner_safe
        check_choice("alignment", alignment, ("batch", "sample", "none"))
        if log_depth and alignment != "none":
            raise ValueError("alignment: expected 'none' for log_depth, a shift has no logarithm")
        self.alignment = alignment
        if relative_share and not log_depth:
            raise ValueError("log_depth: expected True for relative_share, got False")
        self.log_depth = log_depth
        self.relative_share = relative_share
        self.normal_weight = normal_weight
        self.relative_pose_weight = relative_pose_weight
        self.upstream_visibility = upstream_visibility

    def forward(self, predictions: Frames, targets: Frames) -> dict[str, Tensor]:
        """Weighted terms, by the names ``loss_camera, loss_depth, loss_points, loss_track``.

        Args:
            predictions: Per-frame results of the student (:func:`split_frames`).
            targets: The same of the teacher, with ``valid_mask`` (B, H, W).
        """
        losses = {}
        first = predictions[0]
        if "camera_pose" in first:
            losses["loss_camera"] = self.camera_weight * self.camera_loss(predictions, targets)
            if self.relative_pose_weight and len(predictions) > 1:
                losses["loss_relative_pose"] = self.relative_pose_weight * relative_pose_loss(
                    [p["camera_pose"] for p in predictions], [t["camera_pose"] for t in targets]
                )
        if "depth" in first:
            losses["loss_depth"] = self.depth_weight * self._dense(
                predictions, targets, "depth", "depth_conf"
            )
        if "pts3d_in_other_view" in first:
            losses["loss_points"] = self.points_weight * self._dense(
                predictions, targets, "pts3d_in_other_view", "conf"
            )
        if "track" in first:
            losses["loss_track"] = self.track_weight * self.track_loss(predictions, targets)
        return losses

    @staticmethod
    def camera_loss(predictions: Frames, targets: Frames) -> Tensor:
        """Huber terms of translation, quaternion and half-weighted field of view."""
        error = torch.stack([p["camera_pose"].float() for p in predictions])
        error = error - torch.stack([t["camera_pose"].float() for t in targets])
        return huber(error[..., :3]) + huber(error[..., 3:7]) + 0.5 * huber(error[..., 7:])

    def _dense(self, predictions: Frames, targets: Frames, name: str, conf: str) -> Tensor:
        terms = [
            self.dense_loss(p[name].float(), t[name].float(), p[conf].float(), t["valid_mask"])
            for p, t in zip(predictions, targets)
        ]
        return torch.stack(terms).mean()

    def dense_loss(self, pred: Tensor, target: Tensor, conf: Tensor, mask: Tensor) -> Tensor:
        """Confidence-weighted L1 after alignment, plus gradient term and regulariser.

        Args:
            pred: Depths ``(B, H, W, 1)`` or points ``(B, H, W, 3)``.
            target: The same of the teacher.
            conf: Confidence of the student ``(B, H, W)``.
            mask: ``(B, H, W)`` bool.
        """
        mask = mask | ~mask.any()
        if self.training and self.alignment != "none":
            pred = pred / mean_distance(pred, mask).view(-1, 1, 1, 1)
            target = target / mean_distance(target, mask).view(-1, 1, 1, 1)
        pred = self._align(pred, target, mask)
        if self.log_depth and pred.shape[-1] == 1:
            pred, target = pred.clamp_min(MIN_DEPTH).log(), target.clamp_min(MIN_DEPTH).log()
        conf = conf.clamp_min(1e-6)
        error = (pred - target).abs()
        if self.relative_share and pred.shape[-1] == 1:
            share = self.relative_share
            error = (1 - share) * error + share * relative_error(pred - target)
        main = masked_mean(conf.unsqueeze(-1) * error, mask)
        if pred.shape[-1] == 1:
            gradient = depth_gradient_loss(pred, target, mask)
        else:
            gradient = pred.new_zeros(())
            if self.normal_weight:
                gradient = self.normal_weight * normal_loss(pred, target, self.corner_safe)
        return main + gradient - self.confidence_weight * masked_mean(conf.log(), mask)

    def _align(self, pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        if self.alignment == "none":
            return pred
        if self.alignment == "batch":
            scale, shift = fit_scale_shift(pred, target)
            return scale * pred + shift
        aligned = []
        for p, t, m in zip(pred, target, mask):
            scale, shift = fit_scale_shift(p, t, m | ~m.any())
            aligned.append(scale * p + shift)
        return torch.stack(aligned)

    def track_loss(self, predictions: Frames, targets: Frames) -> Tensor:
        """Distance of the tracks and visibility, weighted by the student's confidence."""
        distances, visibilities = [], []
        for p, t in zip(predictions, targets):
            weight = p["track_conf"].float()
            distances.append(weight * (p["track"].float() - t["track"].float()).norm(dim=-1))
            logits = p["vis"] if self.upstream_visibility else p["vis_logits"]
            entropy = F.binary_cross_entropy_with_logits(
                logits.float(), t["vis"].float(), reduction="none"
            )
            visibilities.append(weight * entropy)
        return torch.stack(distances).mean() + torch.stack(visibilities).mean()
