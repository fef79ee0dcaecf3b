"""Encoder of the HexPlane VAE: voxel convolutions and the Projection Module."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmcity.models.layers.mlp import Mlp
from mmcity.utils.checks import check_choice

from .columns import ColumnFold
from .hexplane import PLANES
from .initialization import LEAK, ResidualBody, norm_3d, start_with_unit_gain

#: Sequences attended at once; bounds the memory of the attention workspace.
_MAX_SEQUENCES = 32768


class VoxelEncoder(nn.Module):
    """3D convolutions on single frames, with strided reduction per axis.

    Args:
        in_channels: Channels of the embedded voxels.
        channels: Channels of the output.
        down: Number of halvings along x, y, z.
        kernel: Edge of the kernels that do not reduce. Defaults to 3.
        norm: Normalise over each frame. Defaults to True.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        down: Sequence[int],
        kernel: int = 3,
        norm: bool = True,
    ) -> None:
        super().__init__()
        padding = {"padding_mode": "replicate"}
        self.conv0 = nn.Conv3d(in_channels, channels, kernel, padding=kernel // 2, **padding)
        self.conv1 = ResidualBody(channels, kernel, norm, **padding)
        stages: list[nn.Module] = []
        for i in range(max(down)):
            stride = tuple(2 if d > i else 1 for d in down)
            reduce = nn.Conv3d(channels, channels, stride, stride=stride)
            stages += [
                nn.Sequential(reduce, norm_3d(channels, norm)),
                ResidualBody(channels, kernel, norm, **padding),
            ]
        self.down = nn.ModuleList(stages)

    def stem(self, voxels: Tensor) -> Tensor:
        """Map ``(B*T, C_in, X, Y, Z)`` to ``(B*T, C, X, Y, Z)``."""
        x = self.conv0(voxels)
        return x + self.conv1(x)

    def reduce(self, x: Tensor) -> Tensor:
        """Map the stem's ``(B*T, C, X, Y, Z)`` to ``(B*T, C, x, y, z)``."""
        for reduce, body in zip(self.down[0::2], self.down[1::2]):
            x = reduce(x)
            x = x + body(x)
        return x

    def forward(self, voxels: Tensor) -> Tensor:
        """Map ``(B*T, C_in, X, Y, Z)`` to ``(B*T, C, x, y, z)``."""
        return self.reduce(self.stem(voxels))


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(
                f"latent_channels: expected a multiple of transformer_heads {heads}, got {dim}"
            )
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, query: slice = slice(None)) -> Tensor:
        """Attend from the cells ``query`` of ``(S, N, C)`` to all cells: ``(S, len, C)``."""
        batch, length, dim = x.shape
        drop = self.dropout if self.training else 0.0
        if query == slice(None):
            qkv = self.qkv(x).view(batch, length, 3, self.heads, dim // self.heads)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (S, heads, N, C/heads)
        else:
            weight = self.qkv.weight
            q = F.linear(x[:, query], weight[:dim])
            q = q.view(batch, q.shape[1], self.heads, -1).transpose(1, 2)
            kv = F.linear(x, weight[dim:]).view(batch, length, 2, self.heads, dim // self.heads)
            k, v = kv.permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=drop)
        x = x.transpose(1, 2).reshape(batch, q.shape[2], dim)
        return self.proj_drop(self.proj(x))


class ProjectionTransformer(nn.Module):
    """Pre-norm transformer over the cells that one plane cell collapses.

    Args:
        dim: Channels.
        depth: Layers.
        heads: Attention heads of width ``dim / heads``.
        mlp_dim: Hidden width of the MLP.
        dropout: On attention probabilities, attention output and both MLP positions,
            in training only.
        with_checkpoint: Recompute the layers in the backward pass. Defaults to False.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        mlp_dim: int,
        dropout: float,
        with_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.with_checkpoint = with_checkpoint
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.Sequential(nn.LayerNorm(dim), _Attention(dim, heads, dropout)),
                    nn.Sequential(nn.LayerNorm(dim), Mlp(dim, mlp_dim, dim, dropout=dropout)),
                ]
            )
            for _ in range(depth)
        )

    def _run(self, x: Tensor, cells: slice) -> Tensor:
        for i, (attention, mlp) in enumerate(self.layers):
            # Nobody reads the other cells of the last layer.
            query = cells if i == len(self.layers) - 1 else slice(None)
            norm, attend = attention
            x = x[:, query] + attend(norm(x), query)
            x = x + mlp(x)
        return x if len(self.layers) else x[:, cells]

    def forward(self, x: Tensor, cells: slice = slice(None)) -> Tensor:
        """Map ``(S, N, C)`` to the cells ``(S, len, C)`` asked for.

        Args:
            x: Sequences; they are independent.
            cells: Positions that are wanted. The last layer works out only these, which
                turns its cost from quadratic to linear in N where one is wanted.
        """
        if self.with_checkpoint and torch.is_grad_enabled():
            parts = [
                checkpoint(self._run, part, cells, use_reentrant=False)
                for part in x.split(_MAX_SEQUENCES)
            ]
        else:
            parts = [self._run(part, cells) for part in x.split(_MAX_SEQUENCES)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class PlaneDownsampler(nn.Module):
    """Strided convolutions on one plane; ``ratio`` counts the halvings of its two axes."""

    def __init__(self, channels: int, ratio: tuple[int, int]) -> None:
        super().__init__()
        stages: list[nn.Module] = [nn.Identity()]  # published checkpoints count from 1
        steps = max(ratio)
        for i in range(steps):
            stride = tuple(2 if r > i else 1 for r in ratio)
            conv = nn.Conv2d(channels, channels, stride, stride=stride)
            stages.append(
                nn.Sequential(conv) if i == steps - 1 else nn.Sequential(conv, nn.LeakyReLU(LEAK))
            )
        self.down = nn.Sequential(*stages)

    def forward(self, plane: Tensor) -> Tensor:
        """Map ``(B, C, a, b)`` to ``(B, C', a/r, b/r)``."""
        return self.down(plane)


class HexPlaneEncoder(nn.Module):
    """Labels of a clip to six feature planes (section 3.2 of the paper).

    Args:
        num_classes: Label slots, class 0 = free.
        spatial_size: Grid ``(X, Y, Z)``.
        sequence_length: Frames T of a clip.
        latent_channels: Channels C.
        down: Halvings of x, y, z in the voxel encoder.
        hex_down: Halvings of t, x, y, z on the planes.
        separate_t_encoder: The planes tx, ty, tz get a voxel encoder of their own.
        one_hot_time: That encoder also sees the one-hot frame index.
        separate_t_reducer: xy, xz, yz are projected from a volume that has no time axis.
        projector: ``transformer`` (the paper's Projection Module) or ``average`` (its baseline).
        transformer_depth: Layers of each projection.
        transformer_heads: Heads of each projection.
        transformer_dim_mlp: Hidden width of each projection.
        dropout: Dropout in the projections.
        readout: What becomes the plane cell: ``first`` (first collapsed cell, as published
            checkpoints need), ``token`` (the appended token) or ``mean``.
        columns: Hidden width of a :class:`ColumnFold` whose result is added to the xy plane.
            Defaults to None (as published).
        kernel: Edge of the kernels of the voxel encoder. Defaults to 3.
        norm: Normalise over each frame in the voxel encoder. Defaults to True.
        with_checkpoint: Gradient checkpointing in the projections. Defaults to False.
    """

    def __init__(
        self,
        num_classes: int,
        spatial_size: Sequence[int],
        sequence_length: int,
        latent_channels: int = 16,
        down: Sequence[int] = (1, 1, 1),
        hex_down: Sequence[int] = (1, 0, 0, 0),
        separate_t_encoder: bool = True,
        one_hot_time: bool = True,
        separate_t_reducer: bool = True,
        projector: str = "transformer",
        transformer_depth: int = 2,
        transformer_heads: int = 2,
        transformer_dim_mlp: int = 32,
        dropout: float = 0.1,
        readout: str = "first",
        with_checkpoint: bool = False,
        columns: int | None = None,
        kernel: int = 3,
        norm: bool = True,
    ) -> None:
        super().__init__()
        check_choice("projector", projector, ("transformer", "average"))
        check_choice("readout", readout, ("first", "token", "mean"))
        channels = latent_channels
        self.sequence_length = sequence_length
        self.one_hot_time = one_hot_time and separate_t_encoder
        self.separate_t_reducer = separate_t_reducer
        self.projector = projector
        self.readout = readout
        self.embedding = nn.Embedding(num_classes, channels)
        self.voxel_encoder = VoxelEncoder(channels, channels, down, kernel, norm)
        self.t_encoder = None
        if separate_t_encoder:
            extra = sequence_length if one_hot_time else 0
            self.t_encoder = VoxelEncoder(channels + extra, channels, down, kernel, norm)
        # Then the stem sees one label at a time, and a table of the classes holds all it gives.
        self.pointwise = kernel == 1 and not norm and self.t_encoder is None
        sizes = {"t": sequence_length}
        for axis, size, d in zip("xyz", spatial_size, down):
            if size % 2**d:
                raise ValueError(f"size along {axis}: expected a multiple of 2**{d}, got {size}")
            sizes[axis] = size // 2**d

        names = ["xyz", *PLANES] if separate_t_reducer else list(PLANES)
        self.reduced_axes = {}
        for name in names:
            source = "xyz" if separate_t_reducer and name in ("xy", "xz", "yz") else "txyz"
            self.reduced_axes[name] = [axis for axis in source if axis not in name]
        if projector == "transformer":
            self.tokens = nn.ParameterDict()
            self.pos_encodings = nn.ParameterDict()
            self.transformers = nn.ModuleDict()
            for name in names:
                length = math.prod(sizes[axis] for axis in self.reduced_axes[name])
                self.tokens[name] = nn.Parameter(torch.randn(1, 1, channels))
                self.pos_encodings[name] = nn.Parameter(torch.randn(1, length + 1, channels))
                self.transformers[name] = ProjectionTransformer(
                    channels,
                    transformer_depth,
                    transformer_heads,
                    transformer_dim_mlp,
                    dropout,
                    with_checkpoint,
                )
        self.convs = nn.ModuleDict()
        for name in names:
            conv = nn.Conv3d if name == "xyz" else nn.Conv2d
            self.convs[name] = nn.Sequential(
                conv(channels, channels, 1), nn.Tanh(), conv(channels, channels, 1)
            )
        if not norm:
            for part in (self.voxel_encoder, self.t_encoder, self.convs):
                if part is not None:
                    start_with_unit_gain(part)
        halvings = dict(zip("txyz", hex_down))
        self.downsamplers = nn.ModuleList(
            PlaneDownsampler(channels, (halvings[name[0]], halvings[name[1]])) for name in PLANES
        )
        self.column_fold = None
        if columns is not None:
            edges = [2 ** (down[i] + halvings[axis]) for i, axis in enumerate("xy")]
            block = (sequence_length, *edges, spatial_size[2])
            self.column_fold = ColumnFold(num_classes, block, columns, channels)

    def encode_voxels(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Labels ``(B, T, X, Y, Z)`` to the spatial and temporal volumes ``(B, C, T, x, y, z)``."""
        batch, frames = labels.shape[:2]
        if self.pointwise:
            classes = self.embedding.weight.T[None, :, :, None, None]  # (1, C, K, 1, 1)
            table = self.voxel_encoder.stem(classes).flatten(2)[0].T  # (K, C)
            stem = F.embedding(labels.long().flatten(0, 1), table).movedim(-1, 1)
            spatial = self.voxel_encoder.reduce(stem)
            spatial = spatial.unflatten(0, (batch, -1)).transpose(1, 2)
            return spatial, spatial
        embedded = self.embedding(labels.long()).permute(0, 1, 5, 2, 3, 4)  # (B, T, C, X, Y, Z)
        spatial = self._fold(self.voxel_encoder, embedded.flatten(0, 1), batch)
        if self.t_encoder is None:
            return spatial, spatial
        if self.one_hot_time:
            hot = torch.eye(frames, dtype=embedded.dtype, device=embedded.device)
            hot = hot.view(1, frames, frames, 1, 1, 1).expand(
                batch, frames, frames, *embedded.shape[3:]
            )
            embedded = torch.cat([embedded, hot], dim=2)
        return spatial, self._fold(self.t_encoder, embedded.flatten(0, 1), batch)

    @staticmethod
    def _fold(encoder: VoxelEncoder, frames: Tensor, batch: int) -> Tensor:
        return encoder(frames).unflatten(0, (batch, -1)).transpose(1, 2)

    def project(self, volume: Tensor, name: str) -> Tensor:
        """Collapse all axes of ``volume`` that are not in ``name``.

        Args:
            volume: ``(B, C, t, x, y, z)``, or ``(B, C, x, y, z)`` without time.
            name: ``xyz`` or the name of a plane.

        Returns:
            ``(B, C, *kept)``.
        """
        axes = "txyz" if volume.dim() == 6 else "xyz"
        kept = [axes.index(axis) + 2 for axis in name]
        reduced = [axes.index(axis) + 2 for axis in axes if axis not in name]
        if self.projector == "average":
            return self.convs[name](volume.mean(dim=reduced))
        cells = volume.permute(0, *kept, *reduced, 1)  # (B, *kept, *reduced, C)
        shape = cells.shape[: 1 + len(kept)]
        cells = cells.reshape(shape.numel(), -1, volume.shape[1])
        token = self.tokens[name].expand(len(cells), -1, -1)
        sequence = torch.cat([cells, token], dim=1) + self.pos_encodings[name]
        wanted = {"first": slice(0, 1), "token": slice(-1, None), "mean": slice(None)}
        result = self.transformers[name](sequence, wanted[self.readout]).mean(dim=1)
        return self.convs[name](result.view(*shape, -1).movedim(-1, 1))

    def forward(self, labels: Tensor) -> list[Tensor]:
        """Labels ``(B, T, X, Y, Z)`` to six planes ``(B, C, a, b)``."""
        if labels.shape[1] != self.sequence_length:
            raise ValueError(
                f"clips: expected {self.sequence_length} frames, got {labels.shape[1]}"
            )
        spatial, temporal = self.encode_voxels(labels)
        if self.separate_t_reducer:
            spatial = self.project(spatial, "xyz")
        planes = [self.project(spatial if "t" not in n else temporal, n) for n in PLANES]
        planes = [down(plane) for down, plane in zip(self.downsamplers, planes)]
        if self.column_fold is not None:
            planes[0] = planes[0] + self.column_fold(labels)
        return planes
