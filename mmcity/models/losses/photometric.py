"""Losses between a rendered image and a photograph."""

import torch
from torch import Tensor, nn

from mmcity.registry import MODELS
from mmcity.utils.checks import check_choice
from mmcity_ops import fused_ssim


@MODELS.register_module()
class L1Loss(nn.Module):
    """Mean absolute difference of two images.

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scalar loss.

        Args:
            prediction: (B, C, H, W).
            target: (B, C, H, W).
            mask: (B, H, W) bool or float weight per pixel. Defaults to None: all pixels.
        """
        difference = (prediction - target).abs()
        if mask is None:
            return self.loss_weight * difference.mean()
        weight = mask.to(difference).unsqueeze(1)  # (B, 1, H, W)
        total = weight.sum() * difference.shape[1]
        return self.loss_weight * (difference * weight).sum() / total.clamp_min(1)


@MODELS.register_module()
class SSIMLoss(nn.Module):
    """``1 - SSIM`` with a Gaussian window of 11 pixels and sigma 1.5.

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
        padding: ``same`` (zeros beyond the border) or ``valid``. Defaults to ``valid``,
            which keeps the zeros beyond the border out of the loss.
    """

    def __init__(self, loss_weight: float = 1.0, padding: str = "valid") -> None:
        super().__init__()
        check_choice("padding", padding, ("same", "valid"))
        self.loss_weight = loss_weight
        self.padding = padding

    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scalar loss; arguments as in :meth:`L1Loss.forward`.

        With a mask the pixels outside are replaced by the target's, so that they neither
        count nor send a gradient.
        """
        if mask is not None:
            prediction = torch.where(mask.bool().unsqueeze(1), prediction, target)
        return self.loss_weight * (1 - fused_ssim(prediction, target, padding=self.padding))
