"""The joint objective of the pose network."""

from collections.abc import Sequence

from torch import Tensor, nn

from mmcity.registry import MODELS

from .discriminator import lsgan_generator_loss


@MODELS.register_module()
class JointObjective(nn.Module):
    """Pose, feature, perturbed-pose and generator losses, weighted.

    Args:
        pose (dict, optional): Config of the pose loss. Defaults to ``GeometricPoseLoss``.
        feature (dict, optional): Config of the feature loss. Defaults to ``VICRegLoss``.
        weights (Sequence[float]): Of pose, feature, perturbed pose and generator loss.
            Defaults to (1, 1, 1, 0.7).
    """

    NAMES = ("loss_pose", "loss_feature", "loss_pose_perturbed", "loss_generator")

    def __init__(
        self,
        pose: dict | None = None,
        feature: dict | None = None,
        weights: Sequence[float] = (1.0, 1.0, 1.0, 0.7),
    ) -> None:
        super().__init__()
        if len(weights) != 4:
            raise ValueError(f"weights: expected four numbers, got {weights}")
        self.pose = MODELS.build(pose or dict(type="GeometricPoseLoss"))
        self.feature = MODELS.build(feature or dict(type="VICRegLoss"))
        self.weights = dict(zip(self.NAMES, weights))

    def forward(
        self,
        poses: Tensor,
        gt_poses: Tensor,
        real: Tensor | None = None,
        rendered: Tensor | None = None,
        scores: Tensor | None = None,
        perturbed: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Weighted terms; those without input are left out.

        Args:
            poses (Tensor): ``(B, 12)`` or, with a rendered stream, ``(2 B, 12)``.
            gt_poses (Tensor): ``(B, 12)``.
            real (Tensor, optional): Features of photographs ``(levels, B, C, h, w)``.
            rendered (Tensor, optional): Those of their renders.
            scores (Tensor, optional): The discriminator's for the renders.
            perturbed (tuple, optional): Estimated and true poses of perturbed renders.
        """
        copies = len(poses) // len(gt_poses)
        terms = {"loss_pose": self.pose(poses, gt_poses.repeat(copies, 1))}
        if real is not None and rendered is not None:
            terms["loss_feature"] = self.feature(real, rendered)
        if perturbed is not None:
            terms["loss_pose_perturbed"] = self.pose(*perturbed)
        if scores is not None:
            terms["loss_generator"] = lsgan_generator_loss(scores)
        return {name: self.weights[name] * value for name, value in terms.items()}
