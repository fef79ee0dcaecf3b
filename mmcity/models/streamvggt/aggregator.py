"""Alternating frame-wise and global attention over the tokens of all frames."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmcity.models.layers import (
    Attend,
    ConvStem,
    DinoVisionTransformer,
    PatchEmbed,
    TransformerBlock,
    flex_frame_causal_attention,
    frame_causal_attention,
    rope_tables_2d,
)
from mmcity.utils.checks import check_choice
from mmcity.utils.images import IMAGENET_MEAN, IMAGENET_STD

#: Kernels of the causal full pass by name.
CAUSAL_KERNELS = {"steps": frame_causal_attention, "flex": flex_frame_causal_attention}


class Aggregator(nn.Module):
    """Turns frames into camera, register and patch tokens that know all visible frames.

    Pair i applies ``frame_blocks[i]`` inside every frame and ``global_blocks[i]`` across
    frames; its output is the concatenation of both, ``2 * embed_dim`` channels.

    Args:
        img_size: Side of the square image the position table is made for. Defaults to 518.
        patch_size: Side of a patch. Defaults to 14.
        embed_dim: Channels. Defaults to 1024.
        depth: Pairs of blocks. Defaults to 24.
        num_heads: Attention heads. Defaults to 16.
        mlp_ratio: Feed-forward width over channels. Defaults to 4.
        num_register_tokens: Registers per frame, also in the patch transformer. Defaults to 4.
        num_variants: Variants of the camera and register tokens: frame k of a sequence has the
            k-th one, those beyond the last. The published model has 2, for the first frame
            and all others; with more, a network that cannot see far-off matches still knows
            the order of the first frames. Defaults to 2.
        patch_embed: ``'dino'`` (vision transformer), or for small models ``'conv'`` (one
            convolution) or ``'conv_stem'`` (three). Defaults to ``'dino'``.
        dino_depth: Blocks of the patch transformer. Defaults to 24.
        dino_heads: Its attention heads. Defaults to ``num_heads``.
        layer_scale: Initial residual factor of the pairs. Defaults to 0.01.
        rope_base: Base of the rotary positions. Defaults to 100.
        kept_layers: Pairs whose output :meth:`forward` returns. Defaults to the last.
        gradient_checkpointing: Recompute each pair in the backward pass. Defaults to False.
        causal_kernel: Of the causal pass over whole sequences: ``'steps'`` (one call of
            torch's attention per time step) or ``'flex'`` (one block-sparse kernel, compiled
            per size). Defaults to ``'steps'``.
        token_std: Initial spread of camera and register tokens. From scratch, wide ones tell
            the first frame from the others at once. Defaults to 1e-6, as published.
    """

    def __init__(
        self,
        img_size: int = 518,
        patch_size: int = 14,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        num_register_tokens: int = 4,
        num_variants: int = 2,
        patch_embed: str = "dino",
        dino_depth: int = 24,
        dino_heads: int | None = None,
        layer_scale: float = 0.01,
        rope_base: float = 100.0,
        kept_layers: Sequence[int] | None = None,
        gradient_checkpointing: bool = False,
        causal_kernel: str = "steps",
        token_std: float = 1e-6,
    ) -> None:
        super().__init__()
        if patch_embed == "dino":
            self.patch_embed: nn.Module = DinoVisionTransformer(
                img_size,
                patch_size,
                embed_dim,
                dino_depth,
                dino_heads or num_heads,
                num_register_tokens=num_register_tokens,
            )
        elif patch_embed == "conv":
            self.patch_embed = PatchEmbed(patch_size, embed_dim)
        elif patch_embed == "conv_stem":
            self.patch_embed = ConvStem(patch_size, embed_dim)
        else:
            raise ValueError(
                f"patch_embed: expected 'dino', 'conv' or 'conv_stem', got {patch_embed!r}"
            )
        check_choice("causal_kernel", causal_kernel, CAUSAL_KERNELS)
        self.causal_kernel = CAUSAL_KERNELS[causal_kernel]
        self.patch_size = patch_size
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.rope_base = rope_base
        self.gradient_checkpointing = gradient_checkpointing
        self.kept_layers = tuple([depth - 1] if kept_layers is None else kept_layers)
        if self.kept_layers and max(self.kept_layers) >= depth:
            raise ValueError(f"kept_layers: expected below depth {depth}, got {self.kept_layers}")

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(
                TransformerBlock(
                    embed_dim, num_heads, mlp_ratio, qk_norm=True, layer_scale=layer_scale
                )
                for _ in range(depth)
            )

        self.frame_blocks = blocks()
        self.global_blocks = blocks()
        # Variant 0 marks the first frame of a sequence, the last one all that have none.
        self.camera_token = nn.Parameter(torch.zeros(1, num_variants, 1, embed_dim))
        self.register_token = nn.Parameter(
            torch.zeros(1, num_variants, num_register_tokens, embed_dim)
        )
        nn.init.normal_(self.camera_token, std=token_std)
        nn.init.normal_(self.register_token, std=token_std)
        for name, values in (("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 1, 3, 1, 1), persistent=False)

    @property
    def num_special(self) -> int:
        """Tokens of a frame before the patches: one camera token and the registers."""
        return 1 + self.register_token.shape[2]

    @property
    def depth(self) -> int:
        """Number of pairs."""
        return len(self.global_blocks)

    def embed_patches(self, images: Tensor) -> Tensor:
        """Patch tokens ``(B, S, h*w, C)`` of images ``(B, S, 3, H, W)`` in [0, 1]."""
        if images.dim() != 5 or images.shape[2] != 3:
            raise ValueError(f"images: expected (B, S, 3, H, W), got {tuple(images.shape)}")
        normalised = (images - self.image_mean) / self.image_std
        return self.patch_embed(normalised.flatten(0, 1)).unflatten(0, images.shape[:2])

    def add_special_tokens(self, patches: Tensor, first_frame: int = 0) -> Tensor:
        """Prepend camera and register tokens to ``(B, S, h*w, C)``.

        Args:
            patches: Patch tokens of consecutive frames.
            first_frame: Number of their first one in its sequence. Defaults to 0.
        """
        batch, frames = patches.shape[:2]
        special = torch.cat([self.camera_token, self.register_token], dim=2)  # (1, 2, 1+R, C)
        variant = torch.arange(first_frame, first_frame + frames, device=patches.device)
        variant = variant.clamp_max(special.shape[1] - 1)
        special = special[:, variant].expand(batch, -1, -1, -1)
        return torch.cat([special.to(patches.dtype), patches], dim=2)

    def rope_tables(self, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rotary tables of one frame's tokens: patches from (1, 1), special tokens at (0, 0)."""
        ys, xs = torch.meshgrid(
            torch.arange(1, height + 1, device=device),
            torch.arange(1, width + 1, device=device),
            indexing="ij",
        )
        grid = torch.stack([ys, xs], dim=-1).flatten(0, 1)
        positions = torch.cat([grid.new_zeros(self.num_special, 2), grid])
        return rope_tables_2d(positions, self.head_dim, self.rope_base)

    def forward(
        self,
        images: Tensor,
        causal: bool = True,
        step_frames: int = 1,
        window: int | None = None,
        keep_all: bool = False,
    ) -> dict[int, Tensor]:
        """Full-sequence pass.

        Args:
            images: ``(B, S, 3, H, W)`` in [0, 1], sides multiples of the patch size.
            causal: A frame sees only its own and earlier steps; False for the
                bidirectional teacher. Defaults to True.
            step_frames: Frames that share one time step (cameras of a rig). Defaults to 1.
            window: Steps seen besides the first one; None for all. Defaults to None.
            keep_all: Return all pairs instead of ``kept_layers``. Defaults to False.

        Returns:
            Pair index to tokens ``(B, S, P, 2 * C)``.
        """
        tokens = self.add_special_tokens(self.embed_patches(images))
        attend = None
        if causal:
            attend = partial(
                self.causal_kernel, step_tokens=step_frames * tokens.shape[2], window=window
            )
        return self.run_pairs(tokens, images.shape[-2:], [attend] * self.depth, keep_all)

    def run_pairs(
        self,
        tokens: Tensor,
        image_size: Sequence[int],
        attends: Sequence[Attend | None],
        keep_all: bool = False,
    ) -> dict[int, Tensor]:
        """Run all pairs on ``tokens`` ``(B, S, P, C)``.

        Args:
            tokens: Output of :meth:`add_special_tokens`.
            image_size: (H, W) of the images in pixels.
            attends: Attention of each global block; None attends to all given frames.
            keep_all: See :meth:`forward`.
        """
        batch, frames, per_frame, _ = tokens.shape
        rope = self.rope_tables(
            image_size[0] // self.patch_size, image_size[1] // self.patch_size, tokens.device
        )
        kept = {}
        for index, attend in enumerate(attends):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                local, tokens = checkpoint(
                    self._run_pair, tokens, index, rope, attend, use_reentrant=False
                )
            else:
                local, tokens = self._run_pair(tokens, index, rope, attend)
            if keep_all or index in self.kept_layers:
                kept[index] = torch.cat([local, tokens], dim=-1)
        return kept

    def _run_pair(
        self, tokens: Tensor, index: int, rope: tuple[Tensor, Tensor], attend: Attend | None
    ) -> tuple[Tensor, Tensor]:
        frames = tokens.shape[1]
        local = self.frame_blocks[index](tokens.flatten(0, 1), rope)
        local = local.unflatten(0, (-1, frames))  # (B, S, P, C)
        mixed = self.global_blocks[index](local.flatten(1, 2), rope, attend)
        return local, mixed.unflatten(1, (frames, -1))
