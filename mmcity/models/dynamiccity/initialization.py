"""Start weights of HexPlane networks that have no normalisation to set the scale."""

import torch
from torch import nn

#: Gain of the last layer of a residual body, so that depth does not add up.
_BODY_GAIN = 0.3
#: Slope of the activations below 0.
LEAK = 0.1


class ResidualBody(nn.Sequential):
    """Two convolutions of a volume, whose result is added to their input.

    Args:
        channels: Channels of input and output.
        kernel: Edge of the kernels.
        norm: Normalise after each of them.
        *end: Layers behind.
        padding_mode: What lies outside of the volume. Defaults to ``zeros``.
    """

    def __init__(
        self, channels: int, kernel: int, norm: bool, *end: nn.Module, padding_mode: str = "zeros"
    ) -> None:
        first, second = (
            nn.Conv3d(channels, channels, kernel, padding=kernel // 2, padding_mode=padding_mode)
            for _ in range(2)
        )
        super().__init__(
            first,
            norm_3d(channels, norm),
            nn.LeakyReLU(LEAK),
            second,
            norm_3d(channels, norm),
            *end,
        )


def norm_3d(channels: int, norm: bool) -> nn.Module:
    """Normalisation of a volume, or nothing in its place."""
    return nn.InstanceNorm3d(channels) if norm else nn.Identity()


@torch.no_grad()
def start_with_unit_gain(root: nn.Module) -> None:
    """He-normal weights and zero biases below ``root``; weights that are 0 stay 0."""
    for module in root.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
            fan_in = weight.shape[0]
        elif isinstance(module, (nn.Conv2d, nn.Conv3d, nn.Linear)):
            fan_in = weight[0].numel()
        else:
            continue
        if weight.any():
            nn.init.normal_(weight, std=(2 / fan_in) ** 0.5)
            nn.init.zeros_(module.bias)
    for body in root.modules():
        if isinstance(body, ResidualBody):
            body[3].weight.mul_(_BODY_GAIN)
