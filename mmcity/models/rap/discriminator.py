"""Discriminator between features of photographs and of renders."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmcity.registry import MODELS

_CHANNELS = (64, 32, 16, 8)
_STRIDES = {False: (1, 2, 1, 1), True: (2, 2, 2, 2)}
_NORM_EPS = 0.8


@MODELS.register_module()
class FeatureDiscriminator(nn.Module):
    """Four convolutions and one linear score, without a sigmoid (least-squares GAN).

    Module numbers within ``model`` are those of published checkpoints. The size of the linear
    layer depends on that of the features and is set by the first features, or by the weights.

    Args:
        in_channels (int): Defaults to 128.
        large (bool): Halve the map in all four layers, for large features. Defaults to False.
        dropout (float): Of whole channels. Defaults to 0.25.
    """

    def __init__(self, in_channels: int = 128, large: bool = False, dropout: float = 0.25) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for row, (out, stride) in enumerate(zip(_CHANNELS, _STRIDES[bool(large)])):
            conv = nn.Conv2d(channels, out, 3, stride, 1)
            nn.init.normal_(conv.weight, 0.0, 0.02)
            layers += [conv, nn.LeakyReLU(0.2), nn.Dropout2d(dropout)]
            if row:
                norm = nn.BatchNorm2d(out, eps=_NORM_EPS)
                nn.init.normal_(norm.weight, 1.0, 0.02)
                layers.append(norm)
            channels = out
        self.model = nn.Sequential(*layers)
        self.adv_layer = nn.Sequential(nn.Flatten(), nn.LazyLinear(1))

    @property
    def is_sized(self) -> bool:
        """Whether the size of the features is known."""
        return not isinstance(self.adv_layer[1], nn.LazyLinear)

    def forward(self, features: Tensor) -> Tensor:
        """Scores ``(N, 1)`` of features ``(N, C, h, w)`` or stacked ``(levels, B, C, h, w)``."""
        if features.ndim == 5:
            features = features.flatten(0, 1)
        return self.adv_layer(self.model(features))


def lsgan_discriminator_loss(real: Tensor, rendered: Tensor) -> Tensor:
    """Least-squares loss of scores: photographs want 1, renders 0 (Mao et al., 2017)."""
    return F.mse_loss(real, real.new_ones(()).expand_as(real)) + rendered.square().mean()


def lsgan_generator_loss(rendered: Tensor) -> Tensor:
    """Least-squares loss of scores of renders that want to pass for photographs."""
    return F.mse_loss(rendered, rendered.new_ones(()).expand_as(rendered))
