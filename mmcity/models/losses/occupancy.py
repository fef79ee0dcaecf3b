"""Losses on dense class logits of voxels."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcity.registry import MODELS

__all__ = [
    "LovaszSoftmaxLoss",
    "WeightedCrossEntropyLoss",
    "class_weights_from_frequency",
    "lovasz_softmax",
]


def class_weights_from_frequency(frequencies: Sequence[float], power: float = 1 / 3) -> Tensor:
    """Weights ``(max p / p_c)**power`` with p the class shares.

    Args:
        frequencies: Counts per class, ``(K,)``.
        power: Exponent. Defaults to 1/3.

    Returns:
        float32 ``(K,)``; a class that never occurs gets a large finite weight.
    """
    counts = torch.as_tensor(frequencies, dtype=torch.float64)
    share = counts / (counts.sum() + 1e-10)
    return ((share.max() / (share + 1e-10)) ** power).float()


def lovasz_softmax(probabilities: Tensor, target: Tensor) -> Tensor:
    """Lovasz extension of the mean IoU over the classes present in ``target``.

    Args:
        probabilities: ``(P, K)`` softmax outputs.
        target: ``(P,)`` class indices.

    Returns:
        Scalar. Source: Berman et al., arXiv 1705.08790, equation 8 and algorithm 1.
    """
    losses = []
    for c in torch.unique(target).tolist():
        foreground = (target == c).to(probabilities.dtype)
        errors = (foreground - probabilities[:, c]).abs()
        errors, order = torch.sort(errors, descending=True)
        losses.append(torch.dot(errors, _jaccard_steps(foreground[order])))
    if not losses:
        return probabilities.sum() * 0.0
    return torch.stack(losses).mean()


@torch.no_grad()
def _jaccard_steps(foreground: Tensor) -> Tensor:
    total = foreground.sum()
    intersection = total - foreground.cumsum(0)
    union = total + (1.0 - foreground).cumsum(0)
    jaccard = 1.0 - intersection / union
    jaccard[1:] = jaccard[1:] - jaccard[:-1].clone()
    return jaccard


@MODELS.register_module()
class WeightedCrossEntropyLoss(nn.Module):
    """Cross-entropy with class weights, divided by the sum of the weights used.

    Args:
        class_frequencies: Counts per class; see :func:`class_weights_from_frequency`.
            Defaults to None (all weights 1).
        loss_weight: Factor. Defaults to 1.0.
    """

    def __init__(
        self, class_frequencies: Sequence[float] | None = None, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        weight = None
        if class_frequencies is not None:
            weight = class_weights_from_frequency(class_frequencies)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of logits ``(..., K)`` against labels ``(...)``."""
        classes = logits.shape[-1]
        logits = logits.reshape(-1, classes).float()
        return self.loss_weight * F.cross_entropy(
            logits, target.reshape(-1).long(), weight=self.weight
        )


@MODELS.register_module()
class LovaszSoftmaxLoss(nn.Module):
    """:func:`lovasz_softmax` on logits ``(..., K)``, all voxels of the batch together."""

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of logits ``(..., K)`` against labels ``(...)``."""
        probabilities = logits.reshape(-1, logits.shape[-1]).float().softmax(dim=-1)
        return self.loss_weight * lovasz_softmax(probabilities, target.reshape(-1).long())
