"""A smooth form of the L1 loss, as an example of a module outside the toolbox."""

from torch import Tensor, nn

from mmcity.registry import MODELS


@MODELS.register_module()
class CharbonnierLoss(nn.Module):
    """Mean of ``sqrt(difference^2 + epsilon^2)`` (Charbonnier et al., 1994).

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
        epsilon: Where the loss turns from square to absolute. Defaults to 1e-3.
    """

    def __init__(self, loss_weight: float = 1.0, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.epsilon = epsilon

    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scalar loss of images (B, C, H, W); ``mask`` (B, H, W) chooses the pixels."""
        smooth = ((prediction - target).square() + self.epsilon**2).sqrt()
        if mask is None:
            return self.loss_weight * smooth.mean()
        weight = mask.to(smooth).unsqueeze(1)
        return self.loss_weight * (smooth * weight).sum() / (weight.sum() * smooth.shape[1])
