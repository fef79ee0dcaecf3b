"""Prediction of a GaussTR head: one Gaussian per query, in the ego frame."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class GaussianSet:
    """Gaussians of all cameras of a batch, ``M = N * Q`` per sample, camera after camera.

    Attributes:
        means: ``(B, M, 3)`` metres, ego frame.
        scales: ``(B, M, 3)`` standard deviations in metres.
        rotmats: ``(B, M, 3, 3)``.
        opacities: ``(B, M, 1)``.
        features: ``(B, M, C)`` in the space of the foundation model.
    """

    means: Tensor
    scales: Tensor
    rotmats: Tensor
    opacities: Tensor
    features: Tensor

    def to(self, device: torch.device | str) -> "GaussianSet":
        """The same Gaussians on another device."""
        return GaussianSet(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})
