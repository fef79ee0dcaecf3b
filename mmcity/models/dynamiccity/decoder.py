"""Decoders of the HexPlane VAE: Expansion & Squeeze, and the query baseline."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .columns import ColumnUnfold
from .hexplane import PLANES
from .initialization import LEAK, ResidualBody, norm_3d, start_with_unit_gain


def encode_positions(
    frames: Tensor, size: Sequence[int], frequencies: int, dtype: torch.dtype | None = None
) -> Tensor:
    """Sines and cosines of integer voxel coordinates.

    Args:
        frames: Frame index of each entry, ``(N,)``.
        size: Grid ``(X, Y, Z)``.
        frequencies: Number F of octaves, ``2**f`` without a factor of pi.
        dtype: Of the result. Defaults to float32.

    Returns:
        ``(N, 8F, X, Y, Z)``: for each f the sines of (t, x, y, z), then the cosines.
    """
    device = frames.device
    axes = [torch.arange(n, device=device, dtype=torch.float32) for n in size]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))  # (3, X, Y, Z)
    grid = grid.expand(len(frames), -1, -1, -1, -1)
    time = frames.float().view(-1, 1, 1, 1, 1).expand(-1, 1, *size)
    coords = torch.cat([time, grid], dim=1)  # (N, 4, X, Y, Z)
    parts = []
    for f in range(frequencies):
        parts += [torch.sin(2.0**f * coords), torch.cos(2.0**f * coords)]
    return torch.cat(parts, dim=1).to(dtype or torch.float32)


def expand_planes(planes: Sequence[Tensor], hadamard: bool = True) -> Tensor:
    """Broadcast six planes ``(B, Q, a, b)`` to 4D and multiply (or add) them.

    Returns:
        ``(B, Q, t, x, y, z)``.
    """
    volume = None
    for name, plane in zip(PLANES, planes):
        shape = [*plane.shape[:2], 1, 1, 1, 1]
        for axis, size in zip(name, plane.shape[2:]):
            shape[2 + "txyz".index(axis)] = size
        plane = plane.view(shape)
        if volume is None:
            volume = plane
        else:
            volume = volume * plane if hadamard else volume + plane
    return volume


class HexPlaneConvBlock(nn.Module):
    """Residual convolutions on planes; weights are grouped as (xy, xz, yz) and (tx, ty, tz)."""

    def __init__(self, in_channels: int, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.channels = channels
        same = {"padding": kernel // 2, "groups": 3}
        for trio in "ht":
            into = nn.Conv2d(3 * in_channels, 3 * channels, kernel, **same)
            out = nn.Conv2d(3 * channels, 3 * channels, kernel, **same)
            nn.init.zeros_(out.weight)
            nn.init.zeros_(out.bias)
            setattr(self, f"in_layers_{trio}", into)
            setattr(self, f"out_layers_{trio}", nn.Sequential(nn.SiLU(), out))
            setattr(self, f"shortcut_{trio}", nn.Conv2d(3 * in_channels, 3 * channels, 1, groups=3))
        self.norms = nn.ModuleList(
            nn.InstanceNorm2d(channels, eps=1e-6, affine=True) for _ in PLANES
        )

    def _slice(self, conv: nn.Conv2d, plane: Tensor, index: int) -> Tensor:
        rows = slice(index * self.channels, (index + 1) * self.channels)
        return F.conv2d(plane, conv.weight[rows], conv.bias[rows], padding=conv.padding)

    def forward(self, planes: Sequence[Tensor]) -> list[Tensor]:
        """Map six planes ``(B, C, a, b)`` to ``(B, Q, a, b)``.

        Each plane passes through its own group: since the planes of a trio have unequal
        sizes, one grouped convolution would need padding that is cut off again.
        """
        result = []
        for i, plane in enumerate(planes):
            trio = "h" if i < 3 else "t"
            hidden = self._slice(getattr(self, f"in_layers_{trio}"), plane, i % 3)
            activation, out = getattr(self, f"out_layers_{trio}")
            hidden = self._slice(out, activation(self.norms[i](hidden)), i % 3)
            result.append(hidden + self._slice(getattr(self, f"shortcut_{trio}"), plane, i % 3))
        return result


class PlaneUpsampler(nn.Module):
    """Transposed convolution that undoes a :class:`PlaneDownsampler` of the same ratio."""

    def __init__(
        self, channels: int, ratio: tuple[int, int], kernel: int = 3, norm: bool = True
    ) -> None:
        super().__init__()
        stride = (2 ** ratio[0], 2 ** ratio[1])
        self.upsample = nn.Sequential(
            nn.ConvTranspose2d(channels, channels, stride, stride=stride),
            nn.InstanceNorm2d(channels) if norm else nn.Identity(),
            nn.LeakyReLU(LEAK),
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2),
            nn.InstanceNorm2d(channels) if norm else nn.Identity(),
            nn.LeakyReLU(LEAK),
        )

    def forward(self, plane: Tensor) -> Tensor:
        """Map ``(B, C, a, b)`` to ``(B, C', ra, rb)``."""
        return self.upsample(plane)


class VoxelDecoder(nn.Module):
    """3D convolutions from the squeezed volume to class logits, frame by frame."""

    def __init__(
        self,
        in_channels: int,
        low: int,
        high: int,
        num_classes: int,
        up: Sequence[int],
        pe_freq: int,
        kernel: int = 3,
        norm: bool = True,
    ) -> None:
        super().__init__()
        if pe_freq < 1:
            raise ValueError(f"pe_freq: expected at least 1, got {pe_freq}")
        self.pe_freq = pe_freq
        self.conv_in = nn.Sequential(nn.Conv3d(in_channels, low, 1), nn.LeakyReLU(LEAK))
        self.conv_layers = nn.ModuleList(
            ResidualBody(low, edge, norm, nn.LeakyReLU(LEAK)) for edge in (kernel, 1)
        )
        stride = tuple(2**u for u in up)
        self.transpose_conv = nn.ConvTranspose3d(low, high, stride, stride=stride)
        self.final_conv = nn.Sequential(
            nn.Conv3d(high + 8 * pe_freq, num_classes, 1),
            norm_3d(num_classes, norm),
            nn.LeakyReLU(LEAK),
            nn.Conv3d(num_classes, num_classes, 1),
        )

    def forward(self, volume: Tensor, frames: Tensor) -> Tensor:
        """Map ``(N, Q, x, y, z)`` with frame indices ``(N,)`` to logits ``(N, K, X, Y, Z)``."""
        x = self.conv_in(volume)
        for layer in self.conv_layers:
            x = x + layer(x)
        x = self.transpose_conv(x)
        first, *rest = self.final_conv
        x = F.conv3d(x, first.weight[:, : x.shape[1]], first.bias)
        x = x + self._project_positions(first.weight[:, -8 * self.pe_freq :], frames, x)
        for layer in rest:
            x = layer(x)
        return x

    def _project_positions(self, weight: Tensor, frames: Tensor, like: Tensor) -> Tensor:
        """The 1x1x1 convolution of the positional encoding, ``(N, K, X, Y, Z)``.

        Each channel of the encoding depends on one coordinate, so one short table for each
        axis takes the place of a product at every voxel.
        """
        weight = weight.flatten(1).unflatten(1, (self.pe_freq, 2, 4))  # (K, F, sin/cos, txyz)
        tables = []
        for axis, n in enumerate((None, *like.shape[2:])):
            steps = frames if n is None else torch.arange(n, device=like.device)
            angles = torch.stack([2.0**f * steps.float() for f in range(self.pe_freq)])
            waves = torch.stack([angles.sin(), angles.cos()], dim=1).to(like.dtype)  # (F, 2, n)
            tables.append(torch.einsum("kfs,fsn->kn", weight[..., axis], waves))
        time, x, y, z = tables
        plane = time.T[:, :, None] + x  # (N, K, X)
        layer = y[:, :, None] + z[:, None]  # (K, Y, Z)
        return plane[..., None, None] + layer[None, :, None]


class ExpansionSqueezeDecoder(nn.Module):
    """Planes to logits of the whole clip at once (section 3.2 of the paper).

    Args:
        num_classes: Classes K.
        latent_channels: Channels C of the planes.
        query_channels: Channels Q of the squeezed volume.
        down: Halvings of x, y, z that the encoder made on voxels.
        hex_down: Halvings of t, x, y, z that the encoder made on planes.
        conv_hidden_low_res: Channels of the 3D convolutions at latent resolution.
        conv_hidden_high_res: Channels at full resolution.
        pe_freq: Octaves of the positional encoding.
        hadamard: Multiply the expanded planes (True) or add them.
        with_checkpoint: Recompute the 3D convolutions in the backward pass.
        columns: Frames T and voxels Z of a column, to add a :class:`ColumnUnfold` of the xy
            plane to the logits. Defaults to None (as published).
        kernel: Edge of the kernels that keep the resolution. Defaults to 3.
        norm: Normalise over each plane and frame. Defaults to True.
    """

    def __init__(
        self,
        num_classes: int,
        latent_channels: int = 16,
        query_channels: int = 64,
        down: Sequence[int] = (1, 1, 1),
        hex_down: Sequence[int] = (1, 0, 0, 0),
        conv_hidden_low_res: int = 128,
        conv_hidden_high_res: int = 32,
        pe_freq: int = 3,
        hadamard: bool = True,
        with_checkpoint: bool = False,
        columns: tuple[int, int] | None = None,
        kernel: int = 3,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.hadamard = hadamard
        self.with_checkpoint = with_checkpoint
        self.conv_block = HexPlaneConvBlock(latent_channels, query_channels, kernel)
        halvings = dict(zip("txyz", hex_down))
        self.hex_upsample_block = nn.ModuleList(
            PlaneUpsampler(query_channels, (halvings[n[0]], halvings[n[1]]), kernel, norm)
            for n in PLANES
        )
        self.voxel_decoder = VoxelDecoder(
            query_channels,
            low=conv_hidden_low_res,
            high=conv_hidden_high_res,
            num_classes=num_classes,
            up=down,
            pe_freq=pe_freq,
            kernel=kernel,
            norm=norm,
        )
        if not norm:
            start_with_unit_gain(self)
        self.column_unfold = None
        if columns is not None:
            block = (columns[0], 2 ** down[0], 2 ** down[1], columns[1])
            self.column_unfold = ColumnUnfold(query_channels, num_classes, block)

    def upsample(self, planes: Sequence[Tensor]) -> list[Tensor]:
        """Convolve and upsample the six planes to ``(B, Q, a, b)``."""
        return [up(p) for up, p in zip(self.hex_upsample_block, self.conv_block(planes))]

    def forward(self, planes: Sequence[Tensor], frames: slice | None = None) -> Tensor:
        """Decode planes to logits.

        Args:
            planes: Six planes ``(B, C, a, b)``.
            frames: Decode only these frames of the clip (bounds the memory). Defaults to all.

        Returns:
            Logits ``(B, T, X, Y, Z, K)``.
        """
        upsampled = self.upsample(planes)
        volume = expand_planes(upsampled, self.hadamard)
        batch, time = volume.shape[0], torch.arange(volume.shape[2], device=volume.device)
        if frames is not None:
            volume, time = volume[:, :, frames], time[frames]
        folded = volume.transpose(1, 2).flatten(0, 1)
        time = time.repeat(batch)
        if self.with_checkpoint and torch.is_grad_enabled():
            logits = checkpoint(self.voxel_decoder, folded, time, use_reentrant=False)
        else:
            logits = self.voxel_decoder(folded, time)
        logits = logits.unflatten(0, (batch, -1)).movedim(2, -1)
        if self.column_unfold is not None:
            logits = logits + self.column_unfold(upsampled[0], frames or slice(None))
        return logits


class QueryDecoder(nn.Module):
    """Baseline of the ablation: every voxel samples the planes and runs an MLP.

    Args:
        num_classes: Classes K.
        latent_channels: Channels C of the planes.
        sequence_length: Frames T.
        spatial_size: Grid ``(X, Y, Z)``.
        hidden_channels: Width of the MLP. Defaults to 256.
        hidden_layers: Hidden layers of the MLP. Defaults to 4.
        pe_freq: Octaves of the positional encoding. Defaults to 3.
        hadamard: Multiply the sampled features (True) or add them.
        with_checkpoint: Recompute each frame in the backward pass. Defaults to False.
    """

    def __init__(
        self,
        num_classes: int,
        latent_channels: int,
        sequence_length: int,
        spatial_size: Sequence[int],
        hidden_channels: int = 256,
        hidden_layers: int = 4,
        pe_freq: int = 3,
        hadamard: bool = True,
        with_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.size = (sequence_length, *spatial_size)
        self.pe_freq = pe_freq
        self.hadamard = hadamard
        self.with_checkpoint = with_checkpoint
        layers: list[nn.Module] = []
        width = latent_channels + 8 * pe_freq
        for _ in range(hidden_layers):
            layers += [nn.Linear(width, hidden_channels), nn.ReLU(inplace=True)]
            width = hidden_channels
        layers.append(nn.Linear(width, num_classes))
        self.mlp = nn.Sequential(*layers)

    def _decode_frames(self, volume: Tensor, time: Tensor) -> Tensor:
        positions = encode_positions(time, self.size[1:], self.pe_freq, volume.dtype)
        positions = positions.expand(len(volume), *positions.shape[1:])
        return self.mlp(torch.cat([volume, positions], dim=1).movedim(1, -1))

    def forward(self, planes: Sequence[Tensor], frames: slice | None = None) -> Tensor:
        """Map six planes ``(B, C, a, b)`` to logits ``(B, T, X, Y, Z, K)``."""
        size = dict(zip("txyz", self.size))
        sampled = [
            F.interpolate(p, (size[n[0]], size[n[1]]), mode="bilinear", align_corners=False)
            for n, p in zip(PLANES, planes)
        ]
        steps = range(self.size[0])[frames] if frames is not None else range(self.size[0])
        logits = []
        for step in steps:
            # The planes with a time axis contribute one row each.
            rows = [p[:, :, step : step + 1] if n[0] == "t" else p for n, p in zip(PLANES, sampled)]
            volume = expand_planes(rows, self.hadamard).squeeze(2)  # (B, C, X, Y, Z)
            time = torch.full((1,), step, device=volume.device)
            if self.with_checkpoint and torch.is_grad_enabled():
                logits.append(checkpoint(self._decode_frames, volume, time, use_reentrant=False))
            else:
                logits.append(self._decode_frames(volume, time))
        return torch.stack(logits, dim=1)
