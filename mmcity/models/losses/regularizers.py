"""Regularisers of the Gaussians themselves."""

from torch import Tensor, nn

from mmcity.registry import MODELS


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
