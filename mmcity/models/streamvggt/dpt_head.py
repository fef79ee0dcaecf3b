"""Dense prediction heads (DPT, arXiv 2103.13413) for depth, points and track features."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .activations import activate_confidence, activate_points

#: Largest output of one bilinear resize; 32-bit indexing of the kernels fails beyond.
MAX_RESIZE_ELEMENTS = 1_610_612_736
POSITION_WEIGHT = 0.1


def _axis_coordinates(width: int, height: int, aspect: float, device) -> tuple[Tensor, Tensor]:
    diagonal = (aspect**2 + 1) ** 0.5
    span_x = aspect / diagonal * (width - 1) / width
    span_y = 1 / diagonal * (height - 1) / height
    xs = torch.linspace(-span_x, span_x, width, dtype=torch.float64, device=device)
    ys = torch.linspace(-span_y, span_y, height, dtype=torch.float64, device=device)
    return xs, ys


def _sincos(coordinates: Tensor, channels: int) -> Tensor:
    """Sines then cosines of ``(N,)`` coordinates, ``(N, channels)``."""
    quarter = channels // 2
    exponent = torch.arange(quarter, dtype=torch.float64, device=coordinates.device) / quarter
    angles = coordinates[:, None] * 100.0**-exponent
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def position_embedding(
    width: int, height: int, aspect: float, channels: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Sine-cosine embedding of the image plane, one factor per axis.

    Args:
        width: Columns of the map.
        height: Rows of the map.
        aspect: Width over height of the image.
        channels: Channels of the full embedding, divisible by 4. The first half depends on
            the column alone, the second half on the row alone.
        device: Where the tables are made.

    Returns:
        ``(width, channels / 2)`` and ``(height, channels / 2)``, float64.
    """
    if channels % 4:
        raise ValueError(f"channels: expected a multiple of 4, got {channels}")
    xs, ys = _axis_coordinates(width, height, aspect, device)
    return _sincos(xs, channels // 2), _sincos(ys, channels // 2)


def _add_positions(maps: Tensor, aspect: float) -> Tensor:
    """Add the weighted position embedding to ``(N, C, h, w)``."""
    channels, height, width = maps.shape[1:]
    of_x, of_y = position_embedding(width, height, aspect, channels, maps.device)
    of_x = (POSITION_WEIGHT * of_x).to(maps.dtype).t()[:, None, :].expand(-1, height, -1)
    of_y = (POSITION_WEIGHT * of_y).to(maps.dtype).t()[:, :, None].expand(-1, -1, width)
    return maps + torch.cat([of_x, of_y])


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize with aligned corners, split along the batch where too large."""
    elements = maps.shape[1] * size[0] * size[1]
    per_call = max(1, MAX_RESIZE_ELEMENTS // elements)
    parts = [
        F.interpolate(part, size=tuple(size), mode="bilinear", align_corners=True)
        for part in maps.split(per_call)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class ResidualConvUnit(nn.Module):
    """``relu(x) + conv2(relu(conv1(relu(x))))``.

    The identity branch is rectified too: the published weights were trained that way.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(N, features, h, w)``."""
        x = x.relu()
        return x + self.conv2(self.conv1(x).relu())


class FusionBlock(nn.Module):
    """Joins a coarse map with the next finer one."""

    def __init__(self, features: int, has_skip: bool) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, 1)
        if has_skip:
            self.resConfUnit1 = ResidualConvUnit(features)
        self.resConfUnit2 = ResidualConvUnit(features)

    def forward(self, x: Tensor, skip: Tensor | None, size: Sequence[int]) -> Tensor:
        """Add ``skip``, refine, and resize to ``size`` (h, w)."""
        if skip is not None:
            x = x + self.resConfUnit1(skip)
        return self.out_conv(_resize(self.resConfUnit2(x), size))


class Scratch(nn.Module):
    """Fusion pyramid of a DPT head and its output convolutions."""

    def __init__(self, in_channels: Sequence[int], features: int, output_dim: int | None) -> None:
        super().__init__()
        for level, channels in enumerate(in_channels, start=1):
            conv = nn.Conv2d(channels, features, 3, padding=1, bias=False)
            self.add_module(f"layer{level}_rn", conv)
            fusion = FusionBlock(features, has_skip=level < len(in_channels))
            self.add_module(f"refinenet{level}", fusion)
        if output_dim is None:
            self.output_conv1 = nn.Conv2d(features, features, 3, padding=1)
        else:
            self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
            self.output_conv2 = nn.Sequential(
                nn.Conv2d(features // 2, 32, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(32, output_dim, 1),
            )

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Fuse maps, finest first, into ``(N, C, 2 * h0, 2 * w0)`` with ``output_conv1``."""
        maps = [
            getattr(self, f"layer{index}_rn")(level) for index, level in enumerate(levels, start=1)
        ]
        x = None
        for index in range(len(maps) - 1, -1, -1):
            fusion = getattr(self, f"refinenet{index + 1}")
            if index > 0:
                size = maps[index - 1].shape[-2:]
            else:
                size = [2 * side for side in maps[0].shape[-2:]]
            if x is None:
                x = fusion(maps[index], None, size)
            else:
                x = fusion(x, maps[index], size)
        return self.output_conv1(x)


class ImageDetail(nn.Module):
    """Small convolutions on the picture itself, added to the finest maps of a pyramid.

    Patch tokens of a small model blur outlines; the picture knows where they are.

    Args:
        width: Channels at full resolution; twice as many at a half, four times at a quarter.
        out_channels: Channels of the maps to which full, half and quarter are added.
    """

    def __init__(self, width: int, out_channels: Sequence[int]) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=1 if index == 0 else 2, padding=1)
            for index, (before, after) in enumerate(zip((3, *widths), widths))
        )
        self.projects = nn.ModuleList(
            nn.Conv2d(inner, outer, 1) for inner, outer in zip(widths, out_channels)
        )

    def forward(self, images: Tensor, sizes: Sequence[Sequence[int]]) -> list[Tensor]:
        """Maps at the given (h, w) of images ``(N, 3, H, W)`` in [0, 1]."""
        x, out = images - 0.5, []
        for conv, project, size in zip(self.convs, self.projects, sizes):
            x = conv(x).relu()
            out.append(_resize(project(x), size))
        return out


class DPTHead(nn.Module):
    """Patch tokens of four pairs to one dense map per frame.

    Args:
        dim_in: Channels of the tokens. Defaults to 2048.
        output_dim: Channels of the map, the last one being the confidence; None for plain
            features (track head). Defaults to 4.
        activation: Of all but the last channel, ``'inv_log'`` or ``'exp'``.
            Defaults to ``'inv_log'``.
        features: Channels of the pyramid. Defaults to 256.
        out_channels: Channels of the four levels. Defaults to (256, 512, 1024, 1024).
        layers: Pairs that are read. Defaults to (4, 11, 17, 23).
        patch_size: Side of a patch. Defaults to 14.
        down_ratio: Image size over map size. Defaults to 1.
        add_positions: Add image-plane position embeddings. Defaults to True.
        frames_per_chunk: Frames processed at once, to bound memory. Defaults to 8.
        from_scratch: Start from weights that pass the tokens on at full strength. With
            torch's own, they fade on the way through the many convolutions, and a head that
            learns from scratch sees its position embedding long before it sees the picture.
            Defaults to False: weights are loaded.
        detail_width: Channels of an :class:`ImageDetail` that joins in, an addition to the
            published head for small models. Defaults to 0 (none).
    """

    def __init__(
        self,
        dim_in: int = 2048,
        output_dim: int | None = 4,
        activation: str = "inv_log",
        features: int = 256,
        out_channels: Sequence[int] = (256, 512, 1024, 1024),
        layers: Sequence[int] = (4, 11, 17, 23),
        patch_size: int = 14,
        down_ratio: int = 1,
        add_positions: bool = True,
        frames_per_chunk: int = 8,
        from_scratch: bool = False,
        detail_width: int = 0,
    ) -> None:
        super().__init__()
        if len(layers) != 4 or len(out_channels) != 4:
            raise ValueError(f"layers: expected four, got {tuple(layers)} / {tuple(out_channels)}")
        self.layers = tuple(layers)
        self.activation = activation
        self.patch_size = patch_size
        self.down_ratio = down_ratio
        self.add_positions = add_positions
        self.frames_per_chunk = frames_per_chunk
        self.norm = nn.LayerNorm(dim_in)
        self.projects = nn.ModuleList(nn.Conv2d(dim_in, channels, 1) for channels in out_channels)
        first, second, _, fourth = out_channels
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(first, first, 4, stride=4),
                nn.ConvTranspose2d(second, second, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(fourth, fourth, 3, stride=2, padding=1),
            ]
        )
        self.scratch = Scratch(out_channels, features, output_dim)
        self.detail = None
        if detail_width:
            if output_dim is None:
                raise ValueError("output_dim: expected a number for detail_width, got none")
            self.detail = ImageDetail(detail_width, (features // 2, first, second))
        if from_scratch:
            self._init_for_training()

    def _init_for_training(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.ConvTranspose2d):
                # Without overlap every output has one input pixel: its channels are the fan.
                nn.init.normal_(module.weight, std=module.in_channels**-0.5)
            if getattr(module, "bias", None) is not None and not isinstance(module, nn.LayerNorm):
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, ResidualConvUnit):  # identities at first
                nn.init.zeros_(module.conv2.weight)
            elif isinstance(module, FusionBlock):
                nn.init.kaiming_normal_(module.out_conv.weight, nonlinearity="linear")
        if hasattr(self.scratch, "output_conv2"):
            with torch.no_grad():
                self.scratch.output_conv2[2].weight.mul_(0.1)

    def forward(
        self, tokens: Mapping[int, Tensor], images: Tensor, num_special: int
    ) -> tuple[Tensor, Tensor] | Tensor:
        """Predict maps for ``(B, S)`` frames.

        Args:
            tokens: Pair index to ``(B, S, P, dim_in)``.
            images: ``(B, S, 3, H, W)`` in [0, 1].
            num_special: Tokens of a frame before its patches.

        Returns:
            Values ``(B, S, H, W, output_dim - 1)`` and confidence ``(B, S, H, W)``, or the
            feature map ``(B, S, features, H / down_ratio, W / down_ratio)``.
        """
        inputs = [tokens[layer][:, :, num_special:] for layer in self.layers]
        batch_shape = inputs[0].shape[:2]
        flat = [*(part.flatten(0, 1) for part in inputs), images.flatten(0, 1)]
        with torch.autocast(device_type=flat[0].device.type, enabled=False):
            chunks = [
                self._forward_frames(
                    *(part[start : start + self.frames_per_chunk].float() for part in flat)
                )
                for start in range(0, flat[0].shape[0], self.frames_per_chunk)
            ]
            if not hasattr(self.scratch, "output_conv2"):
                return torch.cat(chunks).unflatten(0, batch_shape)
            raw = torch.cat(chunks).permute(0, 2, 3, 1).unflatten(0, batch_shape)
            return (
                activate_points(raw[..., :-1], self.activation),
                activate_confidence(raw[..., -1]),
            )

    def _forward_frames(self, *inputs: Tensor) -> Tensor:
        *inputs, images = inputs
        height, width = images.shape[-2:]
        grid = (height // self.patch_size, width // self.patch_size)
        aspect = width / height
        levels = []
        for part, project, resize in zip(inputs, self.projects, self.resize_layers):
            maps = self.norm(part).transpose(1, 2).unflatten(2, grid)  # (N, C, h, w)
            maps = project(maps)
            if self.add_positions:
                maps = _add_positions(maps, aspect)
            levels.append(resize(maps))
        size = [side * self.patch_size // self.down_ratio for side in grid]
        details = None
        if self.detail is not None:
            sizes = (size, levels[0].shape[-2:], levels[1].shape[-2:])
            details = self.detail(images, sizes)
            levels[:2] = [level + detail for level, detail in zip(levels, details[1:])]
        out = _resize(self.scratch(levels), size)
        if self.add_positions:
            out = _add_positions(out, aspect)
        if details is not None:
            out = out + details[0]
        if hasattr(self.scratch, "output_conv2"):
            # Few channels at full resolution: half the time of the planar form on a CPU.
            out = self.scratch.output_conv2(out.contiguous(memory_format=torch.channels_last))
        return out
