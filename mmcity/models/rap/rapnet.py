"""RAPNet: absolute pose regression from two levels of image features."""

import torch
import torch.nn.functional as F
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from mmcity.registry import MODELS
from mmcity.structures.geometry import rotation_6d_to_rotmat
from mmcity.utils.published_weights import random_weights_allowed

from .checkpoint_keys import imagenet_backbone
from .efficientnet import EfficientNetFeatures
from .transformer import PoseTokenEncoder, PositionCodes

_HEAD_CHANNELS = 1024


class _PoseHead(nn.Module):
    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, _HEAD_CHANNELS)
        self.out = nn.Linear(_HEAD_CHANNELS, out)
        for linear in (self.hidden, self.out):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.gelu(self.hidden(x)))


class _PoseBranch(nn.Module):
    """Feature map to a few numbers through a pose token."""

    def __init__(self, channels: int, out: int, dim: int, encoder: dict) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, dim))
        self.input_proj = nn.Conv2d(channels, dim, 1)
        self.encoder = PoseTokenEncoder(dim, **encoder)
        self.head = _PoseHead(dim, out)

    def forward(self, features: Tensor, codes: PositionCodes) -> Tensor:
        x = self.input_proj(features)  # (B, dim, H, W)
        positions = torch.cat(codes(*x.shape[-2:]))  # (1 + H W, dim)
        tokens = torch.cat([self.token.expand(len(x), 1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        return self.head(self.encoder(tokens, positions))


def _adaptation(channels: int, inner: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, inner, 1),
        nn.ReLU(),
        nn.Conv2d(inner, out, 5, padding=2),
        nn.BatchNorm2d(out),
    )


@MODELS.register_module()
class RAPNet(nn.Module):
    """Camera pose of an image of one known scene.

    The translation is read from the features at stride 16, the rotation from those at stride
    8. For training, both levels also pass adaptation layers whose output the discriminator
    and the feature loss compare between photographs and renders.

    Args:
        backbone (dict, optional): Arguments of :class:`EfficientNetFeatures`. Defaults to B0.
        pretrained (str, optional): Weights of ImageNet that the backbone starts from, in the
            names of EfficientNet-PyTorch: a path, or ``efficientnet_b0_imagenet`` once
            ``mmcity weights get`` has fetched them. Defaults to None, random ones.
        hidden_dim (int): Channels of the encoders. Defaults to 256.
        num_heads (int): Defaults to 4.
        feedforward_dim (int): Defaults to 256.
        num_encoder_layers (int): Defaults to 6.
        dropout (float): Defaults to 0.1.
        activation (str): ``gelu`` or ``relu``. Defaults to ``gelu``.
        freeze_batch_norm (bool): Keep all batch normalisation at its loaded statistics and
            affine parameters while training, which needs weights. Defaults to True.
        guarded_rotation (bool): Give a rotation even for a degenerate output, see
            :func:`~mmcity.structures.geometry.rotation_6d_to_rotmat`. Defaults to False.
        adaptation_channels (tuple[int, int]): Inner and outer channels of the adapted
            features; the discriminator gets the outer ones. Defaults to (64, 128).
    """

    #: Strides of the levels, in the order in which adapted features are stacked.
    STRIDES = (16, 8)

    def __init__(
        self,
        backbone: dict | None = None,
        pretrained: str | None = None,
        hidden_dim: int = 256,
        num_heads: int = 4,
        feedforward_dim: int = 256,
        num_encoder_layers: int = 6,
        dropout: float = 0.1,
        activation: str = "gelu",
        freeze_batch_norm: bool = True,
        guarded_rotation: bool = False,
        adaptation_channels: tuple[int, int] = (64, 128),
    ) -> None:
        super().__init__()
        self.backbone = EfficientNetFeatures(**(backbone or {}))
        self.pretrained = pretrained
        encoder = dict(
            heads=num_heads,
            hidden=feedforward_dim,
            layers=num_encoder_layers,
            dropout=dropout,
            activation=activation,
        )
        self.positions = PositionCodes(hidden_dim)
        channels = [self.backbone.channels[stride] for stride in self.STRIDES]
        self.translation = _PoseBranch(channels[0], 3, hidden_dim, encoder)
        self.rotation = _PoseBranch(channels[1], 6, hidden_dim, encoder)
        self.adaptation = nn.ModuleList(_adaptation(c, *adaptation_channels) for c in channels)
        self.guarded_rotation = guarded_rotation
        self.freeze_batch_norm = freeze_batch_norm
        if freeze_batch_norm:
            for module in self._norms():
                module.requires_grad_(False)

    def init_weights(self) -> None:
        """Load the backbone's weights of ImageNet, where the config names them.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it holds other weights.
        """
        if self.pretrained is not None and not random_weights_allowed():
            content = CheckpointLoader.load_checkpoint(
                self.pretrained, map_location="cpu", logger="silent"
            )
            weights = imagenet_backbone(content)
            missing = sorted({*self.backbone.state_dict()} ^ {*weights})
            if missing:
                raise ValueError(
                    f"{self.pretrained}: expected the tensors of an EfficientNet in the names of "
                    f"EfficientNet-PyTorch, got differences in {len(missing)}, such as {missing[0]}"
                )
            self.backbone.load_state_dict(weights)

    def _norms(self):
        return (module for module in self.modules() if isinstance(module, nn.BatchNorm2d))

    def train(self, mode: bool = True) -> "RAPNet":
        """As in torch, but frozen batch normalisation stays in eval mode."""
        super().train(mode)
        if self.freeze_batch_norm:
            for module in self._norms():
                module.eval()
        return self

    def check_statistics(self) -> None:
        """Refuse to train behind frozen statistics that nothing has measured.

        Raises:
            ValueError: If batch normalisation is frozen and the backbone's is as when it was made:
                its features hardly depend on the picture then.
        """
        norms = [m for m in self.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
        if random_weights_allowed():
            return
        if self.freeze_batch_norm and not torch.cat([m.running_mean for m in norms]).any():
            raise ValueError(
                "network.freeze_batch_norm: expected statistics of loaded weights, got those of an "
                "untrained backbone: name its weights of ImageNet (network.pretrained) or a "
                "checkpoint (load_from), or set freeze_batch_norm=False"
            )

    def forward(self, images: Tensor) -> Tensor:
        """Poses of images.

        Args:
            images (Tensor): ``(B, 3, h, w)`` normalised by the mean and deviation of ImageNet.

        Returns:
            Tensor: ``(B, 12)``, camera to world ``[R | t]`` row by row.
        """
        return self.poses(self.backbone(images))

    def forward_with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Poses ``(B, 12)`` and adapted features ``(2, B, 128, ~h/8, ~w/8)``."""
        levels = self.backbone(images)
        return self.poses(levels), self.adapt(levels)

    def poses(self, levels: dict[int, Tensor]) -> Tensor:
        """Poses ``(B, 12)`` of backbone features by stride."""
        translation = self.translation(levels[self.STRIDES[0]], self.positions)
        rotation = self.rotation(levels[self.STRIDES[1]], self.positions)
        rotmats = rotation_6d_to_rotmat(rotation.float(), guarded=self.guarded_rotation)
        return torch.cat([rotmats, translation.float()[..., None]], dim=-1).flatten(1)

    def adapt(self, levels: dict[int, Tensor]) -> Tensor:
        """Adapted features of all levels at the size of the largest, ``(2, B, 128, H, W)``."""
        adapted = [layer(levels[s]) for layer, s in zip(self.adaptation, self.STRIDES)]
        size = max((a.shape[-2:] for a in adapted), key=lambda s: s[0] * s[1])
        return torch.stack(
            [
                a
                if a.shape[-2:] == size
                else F.interpolate(a, size, mode="bilinear", align_corners=False)
                for a in adapted
            ]
        )
