"""Training from scratch against measured depth and cameras."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from mmcity.registry import MODELS
from mmcity.structures.geometry import se3_inverse, transform_points

from .distill_loss import DistillationLoss
from .pose_encoding import encode_pose

Frames = Sequence[Mapping[str, Tensor]]
MIN_SCALE = 1e-3


def normalise_scene(frames: Frames) -> list[dict[str, Tensor]]:
    """Ground truth in the form and scale of the network's outputs.

    The world becomes the first camera's frame, and one factor per sample makes the mean
    distance of its valid points 1 (VGGT, arXiv 2503.11651, section 3.4).

    Args:
        frames: Targets of :meth:`VGGT.targets`.

    Returns:
        Per frame ``camera_pose`` (B, 9), ``depth`` (B, H, W, 1), ``pts3d_in_other_view``
        (B, H, W, 3), ``valid_mask`` (B, H, W).
    """
    world_to_first = se3_inverse(frames[0]["camera_pose"])
    points = [
        transform_points(world_to_first, f["pts3d"].flatten(1, 2)).view_as(f["pts3d"])
        for f in frames
    ]
    masks = [f["valid_mask"] for f in frames]
    total = sum((p.norm(dim=-1) * m).sum((1, 2)) for p, m in zip(points, masks))
    count = sum(m.sum((1, 2)) for m in masks)
    scale = (total / count.clamp_min(1)).clamp_min(MIN_SCALE)  # (B,)
    out = []
    for frame, seen in zip(frames, points):
        viewmats = se3_inverse(world_to_first @ frame["camera_pose"]).clone()
        viewmats[:, :3, 3] = viewmats[:, :3, 3] / scale[:, None]
        size = frame["depth"].shape[1:3]
        out.append(
            {
                "camera_pose": encode_pose(viewmats, frame["Ks"], size),
                "depth": frame["depth"] / scale.view(-1, 1, 1, 1),
                "pts3d_in_other_view": seen / scale.view(-1, 1, 1, 1),
                "valid_mask": frame["valid_mask"],
            }
        )
    return out


@MODELS.register_module()
class GroundTruthLoss(DistillationLoss):
    """Terms of :class:`DistillationLoss` against normalised ground truth.

    Nothing is aligned: depth, points and cameras have to agree on one scale. Tracks are not
    supervised.

    Args:
        **kwargs: Arguments of :class:`DistillationLoss`; ``alignment`` is ``'none'``,
            ``log_depth`` True and ``normal_weight`` 0 unless given (sky has no normals).
    """

    def __init__(self, **kwargs) -> None:
        defaults = {"alignment": "none", "log_depth": True, "normal_weight": 0.0}
        super().__init__(**{**defaults, **kwargs})

    def forward(self, predictions: Frames, targets: Frames) -> dict[str, Tensor]:
        """Weighted terms ``loss_camera``, ``loss_depth``, ``loss_points``."""
        supervised = ("camera_pose", "depth", "depth_conf", "pts3d_in_other_view", "conf")
        kept = [{k: v for k, v in p.items() if k in supervised} for p in predictions]
        return super().forward(kept, normalise_scene(targets))

    def dense_loss(self, pred: Tensor, target: Tensor, conf: Tensor, mask: Tensor) -> Tensor:
        """As in the base class; a view without ground truth adds nothing."""
        return super().dense_loss(pred, target, conf, mask) * mask.any()
