"""Embedders of what a HexPlaneDiT may be conditioned on.

The null condition is the zero vector after the embedding. In training each embedder
drops samples on its own; ``drop`` (bool, per sample) drops them explicitly.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COMMANDS = ("static", "forward", "left", "right")


def grid_sincos(dim: int, grid: int) -> Tensor:
    """Fixed 2D position table ``(grid**2, dim)``, row-major.

    The first half of the channels encodes the column, the second the row, each as
    [sin(p w), cos(p w)] with ``w_k = 10000**(-k / (dim/4))``.
    """
    if dim % 4:
        raise ValueError(f"dim: expected a width divisible by 4 for a 2D position table, got {dim}")
    rates = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * rates
    line = torch.cat([angles.sin(), angles.cos()], dim=1)  # (grid, dim/2)
    cols = line[None].expand(grid, -1, -1)
    rows = line[:, None].expand(-1, grid, -1)
    return torch.cat([cols, rows], dim=-1).reshape(grid * grid, dim).float()


class PatchEmbed(nn.Module):
    """Image ``(B, C, S, S)`` to tokens ``(B, N, D)``, row-major."""

    def __init__(self, in_channels: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, S, S)`` to tokens ``(B, N, D)``."""
        return self.proj(x).flatten(2).transpose(1, 2)


class _ConditionEmbedder(nn.Module):
    """Base: embeds, then zeroes dropped samples. Subclasses set ``embedder``."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    def _drop(self, embedded: Tensor, drop: Tensor | None) -> Tensor:
        batch = len(embedded)
        if self.training and self.dropout > 0:
            random = torch.rand(batch, device=embedded.device) < self.dropout
            drop = random if drop is None else drop | random
        if drop is None:
            return embedded
        keep = (~drop).to(embedded.dtype).view(batch, *[1] * (embedded.dim() - 1))
        return embedded * keep


class HexPlaneEmbedder(_ConditionEmbedder):
    """Rollout of the previous clip, patch by patch."""

    def __init__(self, in_channels: int, dim: int, patch_size: int, dropout: float) -> None:
        super().__init__(dropout)
        self.embedder = PatchEmbed(in_channels, dim, patch_size)

    def forward(
        self, rollout: Tensor | None, batch: int, drop: Tensor | None, pos_embed: Tensor
    ) -> Tensor:
        """Tokens ``(B, N, D)``; positions are added to dropped samples too."""
        if rollout is None:
            return pos_embed.expand(batch, -1, -1)
        return self._drop(self.embedder(rollout), drop) + pos_embed


class LayoutEmbedder(_ConditionEmbedder):
    """Bird's-eye vehicle layout of every frame, one channel per token."""

    def __init__(
        self, frames: int, patch_size: int, plane_size: int, size: int, dropout: float
    ) -> None:
        super().__init__(dropout)
        self.plane_size = plane_size
        self.size = size
        self.embedder = PatchEmbed(frames, 1, patch_size)

    def forward(
        self, layout: Tensor | None, batch: int, drop: Tensor | None, pos_embed: Tensor
    ) -> Tensor:
        """Tokens ``(B, N, D)`` from layouts ``(B, T, h, w)``."""
        if layout is None:
            return pos_embed.expand(batch, -1, -1)
        weight = self.embedder.proj.weight
        if layout.shape[1] != weight.shape[1]:
            raise ValueError(
                f"layout: expected {weight.shape[1]} frames, got {tuple(layout.shape)}"
            )
        layout = F.interpolate(layout.to(weight.dtype), (self.plane_size,) * 2, mode="nearest")
        pad = self.size - self.plane_size
        tokens = self.embedder(F.pad(layout, (0, pad, 0, pad)))  # (B, N, 1)
        return self._drop(tokens, drop) + pos_embed


class TrajectoryEmbedder(_ConditionEmbedder):
    """Ego trajectory ``(B, T, 3)`` of x, y, yaw."""

    def __init__(self, frames: int, dim: int, dropout: float) -> None:
        super().__init__(dropout)
        self.dim = dim
        self.embedder = nn.Sequential(
            nn.Linear(3 * frames, dim),
            nn.ReLU(),
            nn.Linear(dim, dim),
            nn.ReLU(),
            nn.Linear(dim, dim),
        )

    def forward(self, trajectory: Tensor | None, batch: int, drop: Tensor | None) -> Tensor:
        """Token ``(B, 1, D)``."""
        weight = self.embedder[0].weight
        if trajectory is None:
            return weight.new_zeros(batch, 1, self.dim)
        return self._drop(self.embedder(trajectory.to(weight.dtype).flatten(1))[:, None], drop)


class CommandEmbedder(_ConditionEmbedder):
    """Driving command, an index into :data:`COMMANDS`."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__(dropout)
        self.embedder = nn.Embedding(len(COMMANDS), dim)

    def forward(self, command: Tensor | None, batch: int, drop: Tensor | None) -> Tensor:
        """Token ``(B, 1, D)``."""
        if command is None:
            return self.embedder.weight.new_zeros(batch, 1, self.embedder.embedding_dim)
        return self._drop(self.embedder(command.long())[:, None], drop)
