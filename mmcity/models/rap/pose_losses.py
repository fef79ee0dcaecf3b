"""Loss of regressed poses."""

import math

import torch
from torch import Tensor, nn

from mmcity.registry import MODELS


@MODELS.register_module()
class GeometricPoseLoss(nn.Module):
    """Distances of translations and of rotation matrices, weighted (Kendall and Cipolla, 2017).

    With ``learnable`` the loss is ``lx exp(-sx) + sx + lq exp(-sq) + sq``, else
    ``sx lx + sq lq``, where lx and lq are the means over the batch of the p-norms of the
    difference of translations and of the nine numbers of the rotation matrices.

    Args:
        learnable (bool): Form of the loss. Defaults to True.
        train_weights (bool): Let the optimiser move ``s_x`` and ``s_q``; published models kept
            them at their first value. Defaults to False.
        norm (float): p. Defaults to 2.
        s_x (float): Weight of the translation. Defaults to -3.
        s_q (float): Weight of the rotation. Defaults to -6.5.
    """

    def __init__(
        self,
        learnable: bool = True,
        train_weights: bool = False,
        norm: float = 2,
        s_x: float = -3.0,
        s_q: float = -6.5,
    ) -> None:
        super().__init__()
        if train_weights and not learnable:
            raise ValueError("learnable: expected True for train_weights, else they go to 0")
        self.learnable, self.norm = learnable, norm
        self.s_x = nn.Parameter(torch.tensor(float(s_x)), requires_grad=train_weights)
        self.s_q = nn.Parameter(torch.tensor(float(s_q)), requires_grad=train_weights)

    def forward(self, poses: Tensor, gt_poses: Tensor) -> Tensor:
        """Loss of poses ``(B, 12)``, ``[R | t]`` row by row."""
        difference = (poses - gt_poses.to(poses)).unflatten(-1, (3, 4))
        translation = torch.linalg.vector_norm(difference[..., 3], self.norm, dim=-1).mean()
        rotation = difference[..., :3].flatten(1)
        rotation = torch.linalg.vector_norm(rotation, self.norm, dim=-1).mean()
        if self.learnable:
            weighted = translation * torch.exp(-self.s_x) + rotation * torch.exp(-self.s_q)
            return weighted + self.s_x + self.s_q
        return self.s_x * translation + self.s_q * rotation

    def extra_repr(self) -> str:
        """Weights of translation and rotation, as printed with the module."""
        weights = [
            math.exp(-float(s)) if self.learnable else float(s) for s in (self.s_x, self.s_q)
        ]
        return f"translation x {weights[0]:.4g}, rotation x {weights[1]:.4g}, norm={self.norm}"
