"""Errors of the motions between all pairs of frames."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmcity.structures.geometry import se3_inverse

from .pose_encoding import decode_pose

#: Motions shorter than this, in units of the scene, weigh less and less.
MIN_MOTION = 0.02


def relative_pose_loss(predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Mean over pairs of frames: relative error of the motion, plus that of the rotation.

    Errors of the encodings themselves hardly count where a camera moves little, although
    the direction of its motion is wrong; this term measures each motion by its own length.

    Args:
        predictions: Pose encoding ``(B, 9)`` of each frame, two at least.
        targets: The same of the truth.

    Returns:
        Scalar: mean of ``|t - t'| / (|t'| + 0.02)`` and of the Frobenius norm ``|R - R'|``,
        added; t and R carry points of frame j into frame i.
    """
    first, second = torch.triu_indices(
        len(targets), len(targets), offset=1, device=targets[0].device
    )

    def motions(encodings: Sequence[Tensor]) -> Tensor:
        viewmats, _ = decode_pose(torch.stack(list(encodings)).float(), (2, 2))
        return viewmats[first] @ se3_inverse(viewmats[second])  # (pairs, B, 4, 4)

    found, true = motions(predictions), motions(targets)
    shift = found[..., :3, 3] - true[..., :3, 3]
    length = true[..., :3, 3].norm(dim=-1)
    turn = (found[..., :3, :3] - true[..., :3, :3]).flatten(-2)
    # The square root has no gradient at zero.
    of_shift = (shift.square().sum(-1) + 1e-8).sqrt() / (length + MIN_MOTION)
    return of_shift.mean() + (turn.square().sum(-1) + 1e-8).sqrt().mean()
