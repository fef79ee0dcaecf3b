"""Losses that pull features of renders towards those of photographs.

All take two stacks ``(levels, B, C, h, w)``: first of photographs, then of their renders.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcity.registry import MODELS


@MODELS.register_module()
class FeatureMSELoss(nn.Module):
    """Mean squared difference."""

    def forward(self, real: Tensor, rendered: Tensor) -> Tensor:
        """Loss of two stacks."""
        return F.mse_loss(rendered, real)


@MODELS.register_module()
class VICRegLoss(nn.Module):
    """Variance, invariance, covariance (Bardes et al., 2022), without a projector.

    Invariance compares whole maps; variance and covariance look at vectors that are averaged
    over space, one per level and image.

    Args:
        invariance (float): Weight. Defaults to 25.
        variance (float): Weight of how far deviations are below 1. Defaults to 25.
        covariance (float): Weight of squared covariances between channels. Defaults to 1.
    """

    def __init__(
        self, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
    ) -> None:
        super().__init__()
        self.weights = (invariance, variance, covariance)

    def forward(self, real: Tensor, rendered: Tensor) -> Tensor:
        """Loss of two stacks."""
        spread, coupling = real.new_zeros(()), real.new_zeros(())
        for stack in (real, rendered):
            vectors = stack.flatten(0, 1).mean((-2, -1))  # (levels B, C)
            vectors = vectors - vectors.mean(0)
            covariance = vectors.T @ vectors / (len(vectors) - 1)
            variances = covariance.diagonal()
            spread = spread + F.relu(1 - (variances + 1e-4).sqrt()).mean()
            off_diagonal = covariance - torch.diag(variances)
            coupling = coupling + off_diagonal.square().sum() / vectors.shape[1]
        same = F.mse_loss(rendered, real)
        return sum(w * term for w, term in zip(self.weights, (same, spread, coupling)))


@MODELS.register_module()
class NTXentLoss(nn.Module):
    """Contrast of levels: each finds the same level of the other stream among all others.

    Args:
        temperature (float): Defaults to 0.5.
    """

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, real: Tensor, rendered: Tensor) -> Tensor:
        """Loss of two stacks."""
        rows = F.normalize(torch.cat([rendered, real]).flatten(1), dim=-1)  # (2 levels, D)
        levels = len(real)
        logits = rows @ rows.T / self.temperature
        itself = torch.eye(2 * levels, dtype=torch.bool, device=rows.device)
        logits = logits.masked_fill(itself, -torch.inf)
        target = torch.arange(2 * levels, device=rows.device).roll(levels)
        return F.cross_entropy(logits, target)


def hardest_case(anchor: Tensor, positive: Tensor) -> int:
    """Shifted stream that comes closest: 0 (a, roll p), 1 (p, roll a), 2 (a, roll a), 3 (p,
    roll p), where ``roll`` moves by one along the batch."""
    other_a, other_p = anchor.roll(1, dims=1), positive.roll(1, dims=1)
    pairs = ((anchor, other_p), (positive, other_a), (anchor, other_a), (positive, other_p))
    return int(torch.stack([F.mse_loss(x, y) for x, y in pairs]).argmin())


@MODELS.register_module()
class HardTripletLoss(nn.Module):
    """Triplet loss with the hardest of four ways to take a negative from the batch.

    Args:
        margin (float): Defaults to 1.
    """

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, real: Tensor, rendered: Tensor) -> Tensor:
        """Loss of two stacks."""
        anchor, positive = rendered, real
        with torch.no_grad():
            case = hardest_case(anchor, positive)
        if case in (1, 3):
            anchor, positive = positive, anchor
        # 0 and 1 shift the other stream, 2 and 3 the anchor's own.
        negative = (positive if case in (0, 1) else anchor).roll(1, dims=1)
        return F.triplet_margin_loss(anchor, positive, negative, margin=self.margin)
