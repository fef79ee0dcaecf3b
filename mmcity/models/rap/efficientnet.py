"""EfficientNet (Tan and Le, 2019) as far as its stride-16 features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcity.registry import MODELS

#: Stages of B0: expansion, kernel, stride of the first block, output channels, blocks.
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_BLOCKS = sum(stage[-1] for stage in _STAGES)
_STEM_CHANNELS = 32
#: Stages up to stride 16; what follows takes part in no output of a pose network.
_USED_STAGES = 5


def round_channels(channels: int, width: float, divisor: int = 8) -> int:
    """Channels times a width coefficient, rounded to a multiple that loses at most 10 %."""
    wanted = channels * width
    rounded = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * wanted else rounded


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class _SamePadConv(nn.Conv2d):
    """Convolution without bias that pads as "same" does for a picture of 224 px.

    With stride 2 an even size loses a row on the upper left: (0, 1) for kernel 3 and (1, 2)
    for kernel 5, whatever the true size is. Published weights expect that.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, groups: int = 1) -> None:
        odd = (kernel - 1) // 2
        super().__init__(
            c_in, c_out, kernel, stride, odd if stride == 1 else 0, groups=groups, bias=False
        )
        self.extra = None if stride == 1 else (odd - 1, odd, odd - 1, odd)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.extra is None else F.pad(x, self.extra))


class _MobileBlock(nn.Module):
    """Inverted bottleneck with squeeze and excitation.

    Only repeats of a stage have a shortcut; the first block has none even where shapes agree.
    """

    def __init__(
        self, c_in: int, c_out: int, expand: int, kernel: int, stride: int, shortcut: bool
    ) -> None:
        super().__init__()
        hidden, squeezed = c_in * expand, max(1, c_in // 4)
        self.expand = nn.Conv2d(c_in, hidden, 1, bias=False) if expand != 1 else None
        self.expand_norm = _norm(hidden) if expand != 1 else None
        self.depthwise = _SamePadConv(hidden, hidden, kernel, stride, groups=hidden)
        self.depthwise_norm = _norm(hidden)
        self.squeeze = nn.Conv2d(hidden, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, hidden, 1)
        self.project = nn.Conv2d(hidden, c_out, 1, bias=False)
        self.project_norm = _norm(c_out)
        self.has_shortcut = shortcut

    def forward(self, x: Tensor, drop_rate: float = 0.0) -> Tensor:
        out = x
        if self.expand is not None:
            out = F.silu(self.expand_norm(self.expand(out)), inplace=True)
        out = F.silu(self.depthwise_norm(self.depthwise(out)), inplace=True)
        gate = self.excite(F.silu(self.squeeze(out.mean((2, 3), keepdim=True))))
        out = self.project_norm(self.project(out * gate.sigmoid()))
        if not self.has_shortcut:
            return out
        if self.training and drop_rate > 0:
            keep = 1 - drop_rate
            draws = torch.rand(len(out), 1, 1, 1, dtype=out.dtype, device=out.device)
            out = out * (keep + draws).floor() / keep
        return out + x


@MODELS.register_module()
class EfficientNetFeatures(nn.Module):
    """Stem and the stages up to stride 16 of EfficientNet-B0.

    The later stages and the classifier of the published pose networks have no influence on
    their output and are not built.

    Args:
        width (float): Factor on all channels, rounded to multiples of 8. Defaults to 1.0.
        drop_connect (float): Rate at which the last block of the full network would drop its
            residual in training; earlier ones drop proportionally less. Defaults to 0.2.
    """

    def __init__(self, width: float = 1.0, drop_connect: float = 0.2) -> None:
        super().__init__()
        self.drop_connect = drop_connect
        channels = round_channels(_STEM_CHANNELS, width)
        self.stem = _SamePadConv(3, channels, 3, 2)
        self.stem_norm = _norm(channels)
        blocks, ends, stride, strides = [], {}, 2, []
        for expand, kernel, first_stride, out, repeats in _STAGES[:_USED_STAGES]:
            out = round_channels(out, width)
            for k in range(repeats):
                step = first_stride if k == 0 else 1
                blocks.append(_MobileBlock(channels, out, expand, kernel, step, k > 0))
                channels, stride = out, stride * step
                ends[stride] = out
                strides.append(stride)
        self.blocks = nn.ModuleList(blocks)
        self._strides = strides
        #: Channels of the last features of each stride.
        self.channels: dict[int, int] = ends

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Last features of each stride.

        Args:
            images (Tensor): ``(B, 3, h, w)``, normalised.

        Returns:
            dict[int, Tensor]: For the strides 2, 4, 8, 16: ``(B, channels[s], ~h/s, ~w/s)``.
        """
        x = F.silu(self.stem_norm(self.stem(images)))
        features = {}
        for index, (block, stride) in enumerate(zip(self.blocks, self._strides)):
            x = block(x, self.drop_connect * index / _BLOCKS)
            features[stride] = x
        return features
