"""Feature pyramid on the single-scale output of a vision transformer."""

from torch import Tensor, nn

from mmcity.models.layers.layer_norm_2d import LayerNorm2d
from mmcity.registry import MODELS


class _ConvNorm(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
        self.norm_layer = LayerNorm2d(out_channels, eps=1e-5)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.norm_layer(self.conv(x))


def _scaling(channels: int, scale: int) -> tuple[nn.Module, int]:
    """Module that resizes by ``2**-scale``, and the channels it leaves."""
    half = channels // 2
    if scale == -2:
        return nn.Sequential(
            nn.ConvTranspose2d(channels, half, 2, stride=2),
            LayerNorm2d(half, eps=1e-5),
            nn.GELU(),
            nn.ConvTranspose2d(half, half // 2, 2, stride=2),
        ), half // 2
    if scale == -1:
        return nn.ConvTranspose2d(channels, half, 2, stride=2), half
    if scale == 0:
        return nn.Identity(), channels
    if scale == 1:
        return nn.MaxPool2d(2, stride=2), channels
    raise ValueError(f"scales: expected -2, -1, 0 or 1, got {scale}")


@MODELS.register_module()
class ViTDetFPN(nn.Module):
    """Four levels from one map, without a top-down path (ViTDet, arXiv 2203.16527).

    Args:
        in_channels: Channels C of the map.
        out_channels: Channels of every level. Defaults to 256.
        scales: Levels as powers of two, finest first. Defaults to (-2, -1, 0, 1).
    """

    def __init__(
        self, in_channels: int, out_channels: int = 256, scales: tuple[int, ...] = (-2, -1, 0, 1)
    ) -> None:
        super().__init__()
        self.scale_convs = nn.ModuleList()
        self.lateral_convs = nn.ModuleList()
        self.fpn_convs = nn.ModuleList()
        for scale in scales:
            module, channels = _scaling(in_channels, scale)
            self.scale_convs.append(module)
            self.lateral_convs.append(_ConvNorm(channels, out_channels, 1))
            self.fpn_convs.append(_ConvNorm(out_channels, out_channels, 3))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map ``(B, C, h, w)`` to levels ``(B, out_channels, ., .)``."""
        return [
            fpn(lateral(scale(x)))
            for scale, lateral, fpn in zip(self.scale_convs, self.lateral_convs, self.fpn_convs)
        ]
