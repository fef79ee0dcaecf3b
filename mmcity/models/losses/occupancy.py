"""Losses on dense class logits of voxels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmcity.registry import MODELS


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

    On a GPU the classes that are absent, and the voxels that cannot count, take their part with
    weight 0, since the host would have to wait to know them.

    Args:
        probabilities: ``(P, K)`` softmax outputs.
        target: ``(P,)`` class indices.

    Returns:
        Scalar. Source: Berman et al., arXiv 1705.08790, equation 8 and algorithm 1.
    """
    steps = torch.zeros_like(probabilities, requires_grad=False)
    present = steps.new_zeros(steps.shape[1]).scatter_(0, target, 1.0)
    classes = range(len(present)) if steps.is_cuda else present.nonzero().flatten().tolist()
    with torch.no_grad():
        for c in classes:
            _add_jaccard_steps(probabilities[:, c], target == c, steps[:, c])
    # d|1 - p| = -dp on the class itself, dp elsewhere: one product serves all classes.
    sign = torch.ones_like(steps).scatter_(1, target[:, None], -1.0)
    foreground = steps.gather(1, target[:, None]).sum()
    return ((probabilities * (steps * sign)).sum() + foreground) / present.sum().clamp_min(1)


def _add_jaccard_steps(probability: Tensor, foreground: Tensor, out: Tensor) -> None:
    """Weights ``(P,)`` of the errors of one class: by how much each, in falling order of the
    errors, raises the Jaccard loss."""
    errors = torch.where(foreground, 1 - probability, probability)
    if errors.is_cuda:
        rows = errors.argsort(descending=True)
    else:  # behind the last voxel of the class the Jaccard loss is 1 and rises no more
        rows = (errors >= errors[foreground].min()).nonzero().squeeze(1)
        rows = rows[errors[rows].argsort(descending=True)]
    hit = foreground[rows].to(errors.dtype)
    total = hit.sum()
    jaccard = 1.0 - (total - hit.cumsum(0)) / (total + (1.0 - hit).cumsum(0))
    jaccard[1:] = jaccard[1:] - jaccard[:-1].clone()
    out[rows] = jaccard * (total > 0)


def _classes_first(logits: Tensor) -> Tensor:
    """Logits ``(..., K)`` as float32 ``(K, P)``: a softmax over rows that lie apart takes many
    voxels at once, one over the last axis does not."""
    return logits.movedim(-1, 0).reshape(logits.shape[-1], -1).float()


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
        target = target.reshape(1, -1).long()
        picked = _classes_first(logits).log_softmax(0).gather(0, target).squeeze(0)
        if self.weight is None:
            return -self.loss_weight * picked.mean()
        weight = self.weight[target[0]]
        return -self.loss_weight * (weight * picked).sum() / weight.sum()


@MODELS.register_module()
class LovaszSoftmaxLoss(nn.Module):
    """:func:`lovasz_softmax` on logits ``(..., K)``, all voxels of the batch together."""

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of logits ``(..., K)`` against labels ``(...)``."""
        probabilities = _classes_first(logits).softmax(0)
        return self.loss_weight * lovasz_softmax(probabilities.T, target.reshape(-1).long())
