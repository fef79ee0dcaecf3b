"""Confidence-weighted regression of points and poses against measured ground truth."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmcity.models.losses import masked_mean
from mmcity.registry import MODELS
from mmcity.structures.geometry import rotmat_to_quat, se3_inverse, transform_points

Frames = Sequence[Mapping[str, Tensor]]
MIN_FACTOR = 1e-3
SKY_DISTANCE = 2.0  # stands in for the error of a sky pixel, so that its confidence falls


@MODELS.register_module()
class PoseRegressionLoss(nn.Module):
    """Supervised objective of the bidirectional model.

    Points are compared in the first camera's frame, each side divided by its mean distance
    (weighted by the logarithm of the predicted confidence); for metric samples both by that
    of the ground truth.

    Args:
        confidence_weight: Of ``-log(confidence)``. Defaults to 0.2.
        points_weight: Defaults to 2.
        pose_weight: Defaults to 5.
        max_pose_loss: The pose term is cut here and then has no gradient. Defaults to 0.3.
        upstream: Compare poses as published: camera to world with the real part first, which
            contradicts the model's own encoding. Defaults to False: world to camera with the
            real part last, as the model predicts it.
    """

    def __init__(
        self,
        confidence_weight: float = 0.2,
        points_weight: float = 2.0,
        pose_weight: float = 5.0,
        max_pose_loss: float = 0.3,
        upstream: bool = False,
    ) -> None:
        super().__init__()
        self.confidence_weight = confidence_weight
        self.points_weight = points_weight
        self.pose_weight = pose_weight
        self.max_pose_loss = max_pose_loss
        self.upstream = upstream

    def forward(self, predictions: Frames, targets: Frames) -> dict[str, Tensor]:
        """``loss_points`` and ``loss_pose``, weighted; ``pose_error`` before it is cut.

        Args:
            predictions: Per-frame results with ``pts3d_in_other_view`` (B, H, W, 3), ``conf``
                (B, H, W), ``camera_pose`` (B, 7 or 9).
            targets: Per frame ``pts3d`` (B, H, W, 3) in the world, ``valid_mask``,
                ``sky_mask`` (B, H, W), ``camera_pose`` (B, 4, 4) camera to world, and
                ``is_metric``, ``camera_only`` (B,).
        """
        is_metric = targets[0]["is_metric"]
        camera_only = targets[0]["camera_only"]
        world_to_first = se3_inverse(targets[0]["camera_pose"].float())
        gt = [self._to_first(t["pts3d"].float(), world_to_first) for t in targets]
        pred = [p["pts3d_in_other_view"].float() for p in predictions]
        conf = [p["conf"].float() for p in predictions]
        masks = [t["valid_mask"] for t in targets]
        weights = [c.detach().log().clamp_min(1e-3) for c in conf]
        gt_factor = self._factor(gt, masks, weights)
        pred_factor = torch.where(is_metric, gt_factor, self._factor(pred, masks, weights))

        points = self._points_loss(gt, pred, conf, targets, gt_factor, pred_factor, ~camera_only)
        pose = self._pose_loss(
            predictions, targets, world_to_first, gt_factor, pred_factor, is_metric, camera_only
        )
        return {
            "loss_points": self.points_weight * points.mean(),
            "loss_pose": self.pose_weight * pose.clamp_max(self.max_pose_loss),
            "pose_error": pose.detach(),
        }

    @staticmethod
    def _to_first(points: Tensor, world_to_first: Tensor) -> Tensor:
        return transform_points(world_to_first, points.flatten(1, 2)).view_as(points)

    @staticmethod
    def _factor(points: Sequence[Tensor], masks: Sequence[Tensor], weights: Sequence[Tensor]):
        """Weighted mean distance over all views of a sample, ``(B,)``."""
        total = sum((w * m * p.norm(dim=-1)).sum((1, 2)) for p, m, w in zip(points, masks, weights))
        weight = sum((w * m).sum((1, 2)) for m, w in zip(masks, weights))
        return (total / (weight + 1e-8)).clamp_min(MIN_FACTOR)

    def _points_loss(
        self, gt, pred, conf, targets, gt_factor: Tensor, pred_factor: Tensor, used: Tensor
    ) -> Tensor:
        """Loss of each view ``(S,)``."""
        terms = []
        for g, p, c, target in zip(gt, pred, conf, targets):
            distance = (p / pred_factor.view(-1, 1, 1, 1) - g / gt_factor.view(-1, 1, 1, 1)).norm(
                dim=-1
            )
            valid = target["valid_mask"]
            sky = target.get("sky_mask", torch.zeros_like(valid))
            distance = distance.masked_fill(sky & ~valid, SKY_DISTANCE)
            mask = (valid | sky) & used.view(-1, 1, 1)
            terms.append(masked_mean(c * distance - self.confidence_weight * c.log(), mask))
        return torch.stack(terms)

    def _pose_loss(
        self,
        predictions: Frames,
        targets: Frames,
        world_to_first: Tensor,
        gt_factor: Tensor,
        pred_factor: Tensor,
        is_metric: Tensor,
        camera_only: Tensor,
    ) -> Tensor:
        relative = torch.stack([world_to_first @ t["camera_pose"].float() for t in targets])
        if not self.upstream:
            relative = se3_inverse(relative)  # first camera's world to camera
        gt_shift = relative[..., :3, 3]  # (S, B, 3)
        quats = rotmat_to_quat(relative[..., :3, :3])
        if not self.upstream:
            quats = quats.roll(-1, -1)
        encoded = torch.stack([p["camera_pose"][..., :7].float() for p in predictions])
        pred_shift = encoded[..., :3]

        gt_norm = gt_shift.norm(dim=-1).mean(0).clamp_min(MIN_FACTOR)
        pred_norm = pred_shift.norm(dim=-1).mean(0).clamp_min(MIN_FACTOR)
        gt_factor = torch.where(camera_only, gt_norm, gt_factor)
        own = torch.where(is_metric, gt_norm, pred_norm)
        pred_factor = torch.where(camera_only, own, pred_factor)
        shift_error = pred_shift / pred_factor[:, None] - gt_shift / gt_factor[:, None]
        errors = shift_error.norm(dim=-1) + (encoded[..., 3:] - quats).norm(dim=-1)  # (S, B)
        usable = (gt_factor > MIN_FACTOR) & (pred_factor > MIN_FACTOR)
        return masked_mean(errors.t(), usable)
