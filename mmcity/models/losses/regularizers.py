"""Regularisers of the Gaussians themselves."""

import torch
from torch import Tensor, nn

from mmcity.registry import MODELS

__all__ = ["AnisotropyLoss", "OpacityLoss", "ScaleLoss"]


@MODELS.register_module()
class OpacityLoss(nn.Module):
    """Mean opacity: pushes Gaussians that nothing needs towards transparency.

    Source: 3DGS as Markov chain Monte Carlo (Kheradmand et al. 2024).

    Args:
        loss_weight: Factor of the loss. Defaults to 0.01.
    """

    #: What the scene model passes in.
    applies_to = "opacities"

    def __init__(self, loss_weight: float = 0.01) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, opacities: Tensor) -> Tensor:
        """Scalar loss of ``opacities`` (N,) in [0, 1]."""
        return self.loss_weight * opacities.mean()


@MODELS.register_module()
class ScaleLoss(nn.Module):
    """Mean scale in units of the scene's extent: pushes Gaussians to be small.

    Source: 3DGS as Markov chain Monte Carlo (Kheradmand et al. 2024); the division by the
    extent makes the weight independent of the units of the capture.

    Args:
        loss_weight: Factor of the loss. Defaults to 0.01.
    """

    #: What the scene model passes in.
    applies_to = "scales and extent"

    def __init__(self, loss_weight: float = 0.01) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, scales: Tensor, scene_extent: Tensor | float = 1.0) -> Tensor:
        """Scalar loss of ``scales`` (N, 3) in world units."""
        return self.loss_weight * scales.mean() / scene_extent


@MODELS.register_module()
class AnisotropyLoss(nn.Module):
    """Penalty on needles: ratio of the two largest scales beyond a limit.

    Needles fit a training view along its rays and show as spikes from elsewhere. The
    formula is that of PhysGaussian (Xie et al. 2024), on the two largest axes so that flat
    discs stay free.

    Args:
        loss_weight: Factor of the loss. Defaults to 0.1.
        max_ratio: Ratio that costs nothing. Defaults to 5.0.
    """

    #: What the scene model passes in.
    applies_to = "scales"

    def __init__(self, loss_weight: float = 0.1, max_ratio: float = 5.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.max_ratio = max_ratio

    def forward(self, scales: Tensor) -> Tensor:
        """Scalar loss of ``scales`` (N, 3) in world units."""
        largest = scales.amax(dim=1)
        middle = scales.sum(dim=1) - largest - scales.amin(dim=1)
        return self.loss_weight * torch.relu(largest / middle - self.max_ratio).mean()
