"""Colours of Gaussians under the appearance of a reference photograph."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcity.models.layers.mlp import Mlp
from mmcity.registry import MODELS

_FREQUENCIES = 10
_INTRINSIC = 48  # channels of the intrinsic features


def encode_positions(points: Tensor, frequencies: int = _FREQUENCIES) -> Tensor:
    """Points ``(N, 3)`` with sines and cosines of octaves, ``(N, 3 + 6 frequencies)``."""
    parts = [points]
    for k in range(frequencies):
        parts += [torch.sin(2.0**k * points), torch.cos(2.0**k * points)]
    return torch.cat(parts, -1)


def _mlp(*widths: int) -> Mlp:
    mlp = Mlp(*widths, keys=[f"lin{k}" for k in range(len(widths) - 1)], activation=F.relu)
    for linear in mlp.linears:
        nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
    return mlp


@MODELS.register_module()
class AppearanceColorNet(nn.Module):
    """Colours from position, appearance, intrinsic features and view direction.

    :meth:`encode` makes what does not depend on the view, so that views of one appearance
    cost only :meth:`decode`.

    Args:
        appearance_dim (int): Channels of all maps. Defaults to 48.
        dropout (float): Of the appearance while training. Defaults to 0.1.
    """

    def __init__(self, appearance_dim: int = 48, dropout: float = 0.1) -> None:
        super().__init__()
        position_dim = 3 + 6 * _FREQUENCIES
        self.encoder = _mlp(position_dim + appearance_dim + _INTRINSIC, 128, 96, 64, 48)
        self.decoder = _mlp(48 + _INTRINSIC, 48, 48, 48)
        self.color_decoder = _mlp(48 + 3, 48, 3)
        self.dropout = dropout

    @torch.no_grad()
    def start_at_zero(self) -> None:
        """Let all colours be 0, until training changes that."""
        self.color_decoder.linears[-1].weight.zero_()

    def encode(
        self, means: Tensor, appearance: Tensor, intrinsic: Tensor, blend: float = 1.0
    ) -> Tensor:
        """Codes ``(N, 48)`` of one appearance.

        Args:
            means (Tensor): ``(N, 3)``.
            appearance (Tensor): ``(N, appearance_dim)``.
            intrinsic (Tensor): ``(N, 16, 3)`` or ``(N, 48)``.
            blend (float): Weight of the appearance: 0 gives the intrinsic look. Defaults to 1.
        """
        intrinsic = intrinsic.flatten(1)
        appearance = blend * F.dropout(appearance, self.dropout, self.training)
        hidden = self.encoder(torch.cat([encode_positions(means), appearance, intrinsic], -1))
        return self.decoder(torch.cat([hidden, intrinsic], -1))

    def decode(self, codes: Tensor, directions: Tensor) -> Tensor:
        """Colours ``(N, 3)`` of codes seen along unit directions ``(N, 3)``."""
        return self.color_decoder(torch.cat([codes, directions], -1))
