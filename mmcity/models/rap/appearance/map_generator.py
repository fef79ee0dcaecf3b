"""U-Net on ResNet-18 that turns a photograph into maps of appearance features.

Module numbers are those of published checkpoints (``encoder.0`` to ``encoder.7`` as in a
plain ResNet without its head, ``decoder.0`` to ``decoder.7``, ``final_conv``).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcity.registry import MODELS

_WIDTHS = (64, 128, 256, 512)


class _BasicBlock(nn.Module):
    """Residual block of ResNet-18 (He et al., 2016)."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + shortcut)


class _DoubleConv(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, padding=1),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
            nn.Conv2d(c_out, c_out, 3, padding=1),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def _stage(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_BasicBlock(c_in, c_out, stride), _BasicBlock(c_out, c_out, 1))


@MODELS.register_module()
class AppearanceMapGenerator(nn.Module):
    """Feature maps of a reference photograph.

    The last decoder stage runs twice with the same weights: with the skip of stride 4 once
    more, then with that of stride 2.

    Args:
        num_maps (int): Maps, the last of which is projected. Defaults to 3.
        channels (int): Channels of a map. Defaults to 16.
        width (float): Factor on the channels of all other layers, which are 64 to 512. Defaults
            to 1, which published weights have; 0.25 costs about an eighth.
        batch_norm_eval (bool): Always use running statistics. With False, the normalisation
            follows ``train`` and ``eval``. Defaults to True.
        batch_statistics (bool): Always normalise by the statistics of the photograph at hand
            and leave the running ones alone, as published maps do when they render. Defaults
            to False.
    """

    def __init__(
        self,
        num_maps: int = 3,
        channels: int = 16,
        width: float = 1.0,
        batch_norm_eval: bool = True,
        batch_statistics: bool = False,
    ) -> None:
        super().__init__()
        if batch_statistics and batch_norm_eval:
            raise ValueError("batch_norm_eval: expected False for batch_statistics, got True")
        self.batch_statistics = batch_statistics
        self.num_maps, self.channels = num_maps, channels
        self.batch_norm_eval = batch_norm_eval
        widths = [max(round(count * width), 1) for count in _WIDTHS]
        first = widths[0]
        self.encoder = nn.Sequential(
            nn.Conv2d(3, first, 7, 2, 3, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            _stage(first, first, 1),
            *(_stage(a, b, 2) for a, b in zip(widths, widths[1:])),
        )
        decoder: list[nn.Module] = []
        for c_in, c_out in (*zip(widths[:0:-1], widths[-2::-1]), (first, first)):
            skip = c_out  # each skip has the channels that the stage gives
            decoder += [nn.ConvTranspose2d(c_in, c_out, 2, 2), _DoubleConv(c_out + skip, c_out)]
        self.decoder = nn.ModuleList(decoder)
        self.final_conv = nn.Conv2d(first, channels * num_maps, 1)

    def train(self, mode: bool = True) -> "AppearanceMapGenerator":
        """As in torch, but batch normalisation may stay in eval mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                if self.batch_norm_eval:
                    module.eval()
                elif self.batch_statistics:
                    module.train()
                    module.momentum = 0.0  # running statistics stay as loaded
        return self

    def _decode(self, stage: int, x: Tensor, skip: Tensor) -> Tensor:
        x = self.decoder[2 * stage](x)
        if x.shape[-2:] != skip.shape[-2:]:
            x = F.interpolate(x, skip.shape[-2:], mode="nearest")
        return self.decoder[2 * stage + 1](torch.cat([x, skip], 1))

    def forward(self, image: Tensor) -> Tensor:
        """Maps of one photograph.

        Args:
            image (Tensor): ``(3, H, W)`` in [0, 1].

        Returns:
            Tensor: ``(num_maps, channels, ~H/2, ~W/2)``.
        """
        taps = {}
        x = image[None]
        for index, layer in enumerate(self.encoder):
            x = layer(x)
            taps[index] = x
        stem, layer1, layer2, layer3 = taps[0], taps[4], taps[5], taps[6]
        for stage, skip in ((0, layer3), (1, layer2), (2, layer1), (3, layer1), (3, stem)):
            x = self._decode(stage, x, skip)
        return self.final_conv(x)[0].unflatten(0, (self.num_maps, self.channels))
