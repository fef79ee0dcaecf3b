"""Diffusion transformer on the padded rollout of a HexPlane."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmcity.models.layers.mlp import Mlp
from mmcity.registry import MODELS

from .conditions import (
    CommandEmbedder,
    HexPlaneEmbedder,
    LayoutEmbedder,
    PatchEmbed,
    TrajectoryEmbedder,
    grid_sincos,
)
from .hexplane import check_rollout_sizes, rollout_mask, rollout_size

#: Conditions that a HexPlaneDiT may be built with.
CONDITIONS = ("hexplane", "layout", "trajectory", "command")


def apply_guidance(output: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance on a denoiser output whose second half is unconditional.

    Args:
        output: ``(2B, 2C, ...)``, noise then variance channels.
        scale: ``eps = eps_null + scale * (eps_cond - eps_null)``.

    Returns:
        Same shape, the guided noise in both halves and the variance channels as they came.
    """
    noise, variance = output.chunk(2, dim=1)
    cond, null = noise.chunk(2)
    guided = null + scale * (cond - null)
    return torch.cat([torch.cat([guided, guided]), variance], dim=1)


class TimestepEmbedder(nn.Module):
    """Sinusoids of the diffusion step through a two-layer MLP."""

    def __init__(self, dim: int, frequency_dim: int = 256) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(frequency_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        half = frequency_dim // 2
        rates = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32) / half)
        self.register_buffer("rates", rates, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """Steps ``(B,)`` to ``(B, D)``."""
        angles = t.float()[:, None] * self.rates
        embedded = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return self.mlp(embedded.to(self.mlp[0].weight.dtype))


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


class _SelfAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, dim // self.heads)
        x = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        return self.proj(x.transpose(1, 2).reshape(batch, length, dim))


class _CrossAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        batch, length, dim = x.shape
        q = self.q(x).view(batch, length, self.heads, -1).transpose(1, 2)
        kv = self.kv(memory).view(batch, memory.shape[1], 2, self.heads, -1)
        x = F.scaled_dot_product_attention(q, *kv.permute(2, 0, 3, 1, 4))
        return self.proj(x.transpose(1, 2).reshape(batch, length, dim))


class DiTBlock(nn.Module):
    """Transformer block with per-token adaptive layer norm."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, cross_attention: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.attn = _SelfAttention(dim, heads)
        self.x_attn = None
        if cross_attention:
            self.norm_x = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
            self.x_attn = _CrossAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), dim, activation=nn.GELU("tanh"))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def forward(self, x: Tensor, c: Tensor, memory: Tensor | None) -> Tensor:
        """Tokens ``(B, N, D)`` under conditioning ``c`` ``(B, N or 1, D)``."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=-1)
        x = x + gate1 * self.attn(_modulate(self.norm1(x), shift1, scale1))
        if self.x_attn is not None and memory is not None:
            x = x + self.x_attn(self.norm_x(x), memory)
        return x + gate2 * self.mlp(_modulate(self.norm2(x), shift2, scale2))


class FinalLayer(nn.Module):
    """Modulated layer norm and the map from tokens to patches."""

    def __init__(self, dim: int, out_features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(dim, out_features)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Patches of tokens ``x`` (B, N, C) under the condition ``c`` (B, C)."""
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=-1)
        return self.linear(_modulate(self.norm(x), shift, scale))


@MODELS.register_module()
class HexPlaneDiT(BaseModule):
    """Noise predictor on rollout maps (DynamicCity, arXiv 2410.18084, section 4).

    Args:
        in_channels: Channels C of the rollout.
        txyz: Latent sizes ``(t, x, y, z)``.
        sequence_length: Frames T of a clip; sizes the layout and trajectory embedders.
        depth: Blocks. Defaults to 16 (DiT-DC/2).
        hidden: Width D. Defaults to 384.
        heads: Attention heads. Defaults to 8.
        patch_size: Edge of a patch. Defaults to 2.
        mlp_ratio: Hidden width of the MLP over D. Defaults to 4.0.
        conditions: Names out of :data:`CONDITIONS`. Defaults to ().
        cross_attention: Blocks also attend to the HexPlane and layout tokens.
        drop_tokens: Leave out the padded patches; the output is zero there. Defaults to True.
        condition_dropout: Share of training samples that lose a condition, each condition
            on its own; one number, or a dict by condition (0.1 where it has none).
            Defaults to 0.1.
        with_checkpoint: Recompute blocks in the backward pass. Defaults to False.
        init_cfg: As in mmengine.
    """

    def __init__(
        self,
        in_channels: int = 16,
        txyz: Sequence[int] = (8, 64, 64, 4),
        sequence_length: int = 16,
        depth: int = 16,
        hidden: int = 384,
        heads: int = 8,
        patch_size: int = 2,
        mlp_ratio: float = 4.0,
        conditions: Sequence[str] = (),
        cross_attention: bool = False,
        drop_tokens: bool = True,
        condition_dropout: float | dict[str, float] = 0.1,
        with_checkpoint: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_rollout_sizes(txyz, patch_size)
        unknown = set(conditions) - set(CONDITIONS)
        if unknown:
            raise ValueError(f"unknown conditions {sorted(unknown)}, expected some of {CONDITIONS}")
        self.in_channels = in_channels
        self.txyz = tuple(txyz)
        self.patch_size = patch_size
        self.conditions = tuple(conditions)
        self.drop_tokens = drop_tokens
        self.with_checkpoint = with_checkpoint
        self.size = rollout_size(txyz)
        self.grid = self.size // patch_size
        self.x_embedder = PatchEmbed(in_channels, hidden, patch_size)
        self.pos_embed = nn.Parameter(grid_sincos(hidden, self.grid)[None], requires_grad=False)
        self.t_embedder = TimestepEmbedder(hidden)
        drop = dict.fromkeys(CONDITIONS, 0.1)
        if isinstance(condition_dropout, dict):
            if set(condition_dropout) - set(conditions):
                raise ValueError(
                    f"condition_dropout: expected some of {tuple(conditions)}, got "
                    f"{sorted(condition_dropout)}"
                )
            drop.update(condition_dropout)
        else:
            drop = dict.fromkeys(CONDITIONS, condition_dropout)
        self.hex_emb = self.layout_emb = self.traj_emb = self.cmd_emb = None
        if "hexplane" in conditions:
            self.hex_emb = HexPlaneEmbedder(in_channels, hidden, patch_size, drop["hexplane"])
        if "layout" in conditions:
            self.layout_emb = LayoutEmbedder(
                sequence_length, patch_size, self.txyz[1], self.size, drop["layout"]
            )
        if "trajectory" in conditions:
            self.traj_emb = TrajectoryEmbedder(sequence_length, hidden, drop["trajectory"])
        if "command" in conditions:
            self.cmd_emb = CommandEmbedder(hidden, drop["command"])
        self.blocks = nn.ModuleList(
            DiTBlock(hidden, heads, mlp_ratio, cross_attention) for _ in range(depth)
        )
        self.final_layer = FinalLayer(hidden, 2 * in_channels * patch_size**2)
        valid = rollout_mask(txyz, patch_size).flatten().bool()
        self.register_buffer("valid_tokens", valid.nonzero().squeeze(1), persistent=False)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, PatchEmbed):
                nn.init.xavier_uniform_(module.proj.weight.view(module.proj.out_channels, -1))
                nn.init.zeros_(module.proj.bias)
        for index in (0, 2):
            nn.init.normal_(self.t_embedder.mlp[index].weight, std=0.02)
        if self.cmd_emb is not None:
            nn.init.normal_(self.cmd_emb.embedder.weight, std=0.02)
        modulations = [block.adaLN_modulation[-1] for block in self.blocks]
        for linear in (
            *modulations,
            self.final_layer.adaLN_modulation[-1],
            self.final_layer.linear,
        ):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def _condition(
        self, t: Tensor, conditions: dict[str, Tensor | None], drop: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Conditioning ``(B, N or 1, D)`` and cross-attention memory ``(B, N, D)``."""
        c = self.t_embedder(t)[:, None]
        batch = len(t)
        if self.traj_emb is not None:
            c = c + self.traj_emb(conditions.get("trajectory"), batch, drop.get("trajectory"))
        if self.cmd_emb is not None:
            c = c + self.cmd_emb(conditions.get("command"), batch, drop.get("command"))
        memory = None
        for name, embedder in (("hexplane", self.hex_emb), ("layout", self.layout_emb)):
            if embedder is None:
                continue
            tokens = embedder(conditions.get(name), batch, drop.get(name), self.pos_embed)
            memory = tokens if memory is None else memory + tokens
        if memory is not None:
            if self.drop_tokens:
                memory = memory[:, self.valid_tokens]
            c = c + memory
        return c, memory

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        conditions: dict[str, Tensor | None] | None = None,
        drop: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Predict noise and variance interpolation.

        Args:
            x: Noisy rollouts ``(B, C, S, S)``.
            t: Original diffusion steps ``(B,)``.
            conditions: By name: ``hexplane`` ``(B, C, S, S)``, ``layout`` ``(B, T, X/4, Y/4)``,
                ``trajectory`` ``(B, T, 3)``, ``command`` ``(B,)`` in 0..3. A condition that
                the model was built with and that is missing here is dropped for all samples.
            drop: By name, bool ``(B,)``: samples whose condition becomes the null condition.

        Returns:
            ``(B, 2C, S, S)``: noise, then variance interpolation; zero on padded patches
            when tokens are dropped.
        """
        if x.shape[1:] != (self.in_channels, self.size, self.size):
            raise ValueError(
                f"x: expected (B, {self.in_channels}, {self.size}, {self.size}), got "
                f"{tuple(x.shape)}"
            )
        unused = set(conditions or {}) - set(self.conditions)
        if unused:
            raise ValueError(f"conditions: expected of {self.conditions}, got {sorted(unused)}")
        tokens = self.x_embedder(x) + self.pos_embed
        if self.drop_tokens:
            tokens = tokens[:, self.valid_tokens]
        c, memory = self._condition(t, conditions or {}, drop or {})
        for block in self.blocks:
            if self.with_checkpoint and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, c, memory, use_reentrant=False)
            else:
                tokens = block(tokens, c, memory)
        patches = self.final_layer(tokens, c)
        if self.drop_tokens:
            full = patches.new_zeros(len(x), self.grid**2, patches.shape[-1])
            patches = full.index_copy(1, self.valid_tokens, patches)
        return self._unpatchify(patches)

    def _unpatchify(self, patches: Tensor) -> Tensor:
        p, g = self.patch_size, self.grid
        x = patches.view(len(patches), g, g, p, p, 2 * self.in_channels)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, g * p, g * p)

    def forward_guided(
        self,
        x: Tensor,
        t: Tensor,
        scale: float,
        conditions: dict[str, Tensor | None] | None = None,
        drop: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Classifier-free guidance on all noise channels.

        Args:
            x: ``(B, C, S, S)``.
            t: ``(B,)``.
            scale: ``eps = eps_null + scale * (eps_cond - eps_null)``.
            conditions: As in :meth:`forward`, batch B.
            drop: Conditions that are null even in the conditional branch, bool ``(B,)``.

        Returns:
            ``(2B, 2C, S, S)``: the guided noise in both halves, with the variance channels of
            the conditional half first and those of the null half second.
        """
        batch = len(x)
        doubled = {}
        for name, value in (conditions or {}).items():
            doubled[name] = None if value is None else torch.cat([value, value])
        null = torch.ones(batch, dtype=torch.bool, device=x.device)
        drops = {}
        for name in self.conditions:
            kept = (drop or {}).get(name)
            kept = torch.zeros_like(null) if kept is None else kept
            drops[name] = torch.cat([kept, null])
        return apply_guidance(self(torch.cat([x, x]), torch.cat([t, t]), doubled, drops), scale)
