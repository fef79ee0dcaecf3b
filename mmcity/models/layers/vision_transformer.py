"""Vision transformer with registers, in the parameter naming of the DINOv2 weights."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmcity.registry import MODELS
from mmcity.utils.checks import check_choice

from .patches import patch_tokens
from .transformer_block import TransformerBlock

#: Standard deviations of the start values of weights and of single tokens.
_WEIGHT_STD, _TOKEN_STD = 0.02, 1e-6


class PatchEmbed(nn.Module):
    """Cut an image into square patches and project each of them linearly.

    Args:
        patch_size: Side of a patch in pixels.
        embed_dim: Output channels.
        in_channels: Image channels. Defaults to 3.
    """

    def __init__(self, patch_size: int, embed_dim: int, in_channels: int = 3) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, embed_dim, patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens ``(N, h * w, C)`` of images ``(N, 3, H, W)``, see :func:`patch_tokens`."""
        return patch_tokens(self.proj, images, self.patch_size)


@MODELS.register_module()
class DinoVisionTransformer(BaseModule):
    """DINOv2 vision transformer (arXiv 2304.07193) with register tokens (arXiv 2309.16588).

    State-dict keys and shapes are those of the published DINOv2 weights
    (``cls_token, pos_embed, register_tokens, mask_token, patch_embed.proj, blocks.i.*,
    norm``), so these load strictly.

    Args:
        img_size: Side of the square image the position table is made for.
            Defaults to 518 (37 x 37 patches).
        patch_size: Side of a patch. Defaults to 14.
        embed_dim: Channels. Defaults to 1024 (ViT-L).
        depth: Blocks. Defaults to 24.
        num_heads: Attention heads. Defaults to 16.
        mlp_ratio: Feed-forward width over channels. Defaults to 4.
        num_register_tokens: Registers between class token and patches. Defaults to 4.
        layer_scale: Initial value of the residual factors. Defaults to 1.0.
        ffn: ``'mlp'`` or ``'swiglu'`` (giant model). Defaults to ``'mlp'``.
        out_type: ``'tokens'`` for ``(N, h*w, C)``, ``'map'`` for ``(N, C, h, w)``.
            Defaults to ``'tokens'``.
        frozen: Keep the network in eval mode without gradients. Defaults to False.
        init_cfg: Where to load weights from (mmengine). Defaults to None.
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
        layer_scale: float = 1.0,
        ffn: str = "mlp",
        out_type: str = "tokens",
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_choice("out_type", out_type, ("tokens", "map"))
        self.out_type = out_type
        self.frozen = frozen
        self.patch_size = patch_size
        self.grid = img_size // patch_size  # side of the position table in patches
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2, embed_dim))
        self.register_tokens = (
            nn.Parameter(torch.zeros(1, num_register_tokens, embed_dim))
            if num_register_tokens
            else None
        )
        # Part of the published weights; only used in masked pre-training.
        self.mask_token = nn.Parameter(torch.zeros(1, embed_dim))
        self.blocks = nn.ModuleList(
            TransformerBlock(
                embed_dim, num_heads, mlp_ratio, layer_scale=layer_scale, norm_eps=1e-6, ffn=ffn
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self._reset_parameters()
        if frozen:
            self.requires_grad_(False)
            self.eval()

    def _reset_parameters(self) -> None:
        """Start values: truncated normal weights and positions, tokens near 0, no biases."""
        linears = [layer for layer in self.modules() if isinstance(layer, nn.Linear)]
        tokens = [token for token in (self.cls_token, self.register_tokens) if token is not None]
        nn.init.trunc_normal_(self.pos_embed, std=_WEIGHT_STD)
        for token in tokens:
            token.data.normal_(std=_TOKEN_STD)
        for linear in linears:
            nn.init.trunc_normal_(linear.weight, std=_WEIGHT_STD)
            linear.bias.data.zero_()

    def train(self, mode: bool = True) -> "DinoVisionTransformer":
        """Set training mode, unless the network is frozen."""
        return super().train(mode and not self.frozen)

    def position_table(self, height: int, width: int) -> Tensor:
        """Positions of class token and patches, ``(1, 1 + height * width, C)``.

        The square table is resampled in float32 by antialiased bicubic interpolation.
        """
        if height == width == self.grid:
            return self.pos_embed
        table = self.pos_embed[:, 1:].float().unflatten(1, (self.grid, self.grid))
        table = F.interpolate(
            table.permute(0, 3, 1, 2),
            size=(height, width),
            mode="bicubic",
            antialias=True,
            align_corners=False,
        )
        table = table.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)
        return torch.cat([self.pos_embed[:, :1], table], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised patch tokens.

        Args:
            images: ``(N, 3, H, W)``, normalised with the ImageNet mean and deviation, sides
                multiples of the patch size.

        Returns:
            ``(N, h * w, C)`` or, with ``out_type='map'``, ``(N, C, h, w)``.
        """
        if self.frozen:
            with torch.no_grad():
                return self._forward(images)
        return self._forward(images)

    def _forward(self, images: Tensor) -> Tensor:
        height, width = (side // self.patch_size for side in images.shape[-2:])
        x = self.patch_embed(images)  # (N, h*w, C)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1).to(x.dtype), x], dim=1)
        x = x + self.position_table(height, width)
        num_special = 1
        if self.register_tokens is not None:
            registers = self.register_tokens.expand(len(x), -1, -1).to(x.dtype)
            x = torch.cat([x[:, :1], registers, x[:, 1:]], dim=1)
            num_special += registers.shape[1]
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)[:, num_special:]
        if self.out_type == "map":
            return x.transpose(1, 2).unflatten(2, (height, width))
        return x

    @property
    def embed_dim(self) -> int:
        """Channels of the output."""
        return self.pos_embed.shape[-1]
