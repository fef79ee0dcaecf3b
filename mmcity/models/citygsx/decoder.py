"""From anchors to the Gaussians that one camera sees."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcity.models.layers import ResizableModule


class AppearanceTable(ResizableModule):
    """One vector per training photograph, added to what the colour depends on.

    Args:
        dim: Width of the vectors.
    """

    class _Rows(ResizableModule):
        resizable = ("weight",)

        def __init__(self, dim: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(0, dim))

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.embedding = self._Rows(dim)

    def initialize(self, count: int) -> None:
        """Draw one vector per photograph from a normal distribution."""
        weight = self.embedding.weight
        weight.data = torch.randn(count, weight.shape[1]).to(weight)

    def forward(self, index: int) -> Tensor:
        """``(dim,)`` vector of a photograph."""
        count = len(self.embedding.weight)
        if not 0 <= index < count:
            raise IndexError(f"photograph: expected one of {count} with an appearance, got {index}")
        return self.embedding.weight[index]


@dataclass
class NeuralGaussians:
    """Gaussians of one view, those with an opacity above 0.

    Attributes:
        means: ``(M, 3)`` world units.
        colors: ``(M, 3)`` in [0, 1].
        opacities: ``(M,)`` in (0, 1).
        scales: ``(M, 3)`` world units.
        quats: ``(M, 4)`` wxyz, unit length.
        raw_opacities: ``(V k,)`` in [-1, 1] of all candidates, before the choice.
        kept: ``(V k,)`` bool: which candidates became Gaussians.
    """

    means: Tensor
    colors: Tensor
    opacities: Tensor
    scales: Tensor
    quats: Tensor
    raw_opacities: Tensor
    kept: Tensor


class AnchorDecoder(nn.Module):
    """Small networks that read k Gaussians off each anchor (Scaffold-GS, Lu et al. 2024).

    Args:
        feat_dim: Width of the anchor features. Defaults to 32.
        n_offsets: Gaussians per anchor. Defaults to 10.
        use_feat_bank: Blend features of three resolutions by viewing direction. Defaults to
            False.
        appearance_dim: Width of the vector per photograph, 0 for none. Defaults to 0.
        add_opacity_dist: Opacity depends on the distance, too. Defaults to False.
        add_cov_dist: Likewise shape. Defaults to False.
        add_color_dist: Likewise colour. Defaults to False.
        add_level: All depend on the level. Defaults to False.
    """

    HIDDEN = 32

    def __init__(
        self,
        feat_dim: int = 32,
        n_offsets: int = 10,
        use_feat_bank: bool = False,
        appearance_dim: int = 0,
        add_opacity_dist: bool = False,
        add_cov_dist: bool = False,
        add_color_dist: bool = False,
        add_level: bool = False,
    ) -> None:
        super().__init__()
        if use_feat_bank and feat_dim % 4:
            raise ValueError(f"feat_dim: expected a multiple of 4 for the bank, got {feat_dim}")
        self.n_offsets = n_offsets
        self.add_opacity_dist = add_opacity_dist
        self.add_cov_dist = add_cov_dist
        self.add_color_dist = add_color_dist
        self.add_level = add_level
        width = feat_dim + 3 + add_level
        self.opacity_mlp = self._mlp(width + add_opacity_dist, n_offsets, nn.Tanh())
        self.cov_mlp = self._mlp(width + add_cov_dist, 7 * n_offsets)
        color_width = width + add_color_dist + appearance_dim
        self.color_mlp = self._mlp(color_width, 3 * n_offsets, nn.Sigmoid())
        self.feature_bank_mlp = None
        if use_feat_bank:
            self.feature_bank_mlp = self._mlp(3 + add_level, 3, nn.Softmax(dim=1))
        self.appearance = AppearanceTable(appearance_dim) if appearance_dim else None

    def _mlp(self, width: int, out: int, *last: nn.Module) -> nn.Sequential:
        layers = (nn.Linear(width, self.HIDDEN), nn.ReLU(), nn.Linear(self.HIDDEN, out))
        return nn.Sequential(*layers, *last)

    def _blend_features(self, features: Tensor, view: Tensor) -> Tensor:
        weights = self.feature_bank_mlp(view)  # (V, 3)
        coarse = features[:, ::4].repeat(1, 4)
        middle = features[:, ::2].repeat(1, 2)
        return weights[:, :1] * coarse + weights[:, 1:2] * middle + weights[:, 2:] * features

    def forward(
        self,
        positions: Tensor,
        features: Tensor,
        offsets: Tensor,
        log_scales: Tensor,
        levels: Tensor,
        viewpoints: Tensor,
        photograph: int | None = None,
        blend: Tensor | None = None,
    ) -> NeuralGaussians:
        """Decode V anchors for one camera.

        Args:
            positions: ``(V, 3)``.
            features: ``(V, F)``.
            offsets: ``(V, k, 3)``.
            log_scales: ``(V, 6)``: three for the offsets, three for the Gaussians.
            levels: ``(V,)``.
            viewpoints: ``(3,)`` camera centre, or one per anchor ``(V, 3)``.
            photograph: Row of the appearance table. Defaults to None, the first.
            blend: ``(V,)`` factor on the opacities (cross-fade of levels). Defaults to none.
        """
        count, k = len(positions), self.n_offsets
        view = positions - viewpoints
        distance = view.norm(dim=1, keepdim=True)
        direction = view / distance
        level = [levels.to(features)[:, None]] if self.add_level else []
        if self.feature_bank_mlp is not None:
            features = self._blend_features(features, torch.cat([direction, *level], 1))
        seen = torch.cat([features, direction, *level], 1)
        if self.add_opacity_dist or self.add_cov_dist or self.add_color_dist:
            # The distance stands between direction and level.
            measured = torch.cat([features, direction, distance, *level], 1)
        opacity_in = measured if self.add_opacity_dist else seen
        # Under autocast the networks alone are of less precision.
        raw = self.opacity_mlp(opacity_in).to(positions)  # (V, k)
        if blend is not None:
            raw = raw * blend[:, None]
        raw = raw.reshape(-1)
        kept = raw > 0
        rows = kept.nonzero()[:, 0]
        parent = rows // k

        color_in = measured if self.add_color_dist else seen
        if self.appearance is not None:
            vector = self.appearance(0 if photograph is None else photograph)
            color_in = torch.cat([color_in, vector.expand(count, -1)], 1)
        colors = self.color_mlp(color_in).to(positions).reshape(-1, 3)[rows]
        shape = self.cov_mlp(measured if self.add_cov_dist else seen)
        shape = shape.to(positions).reshape(-1, 7)[rows]
        sizes = log_scales.exp()[parent]  # (M, 6)
        return NeuralGaussians(
            means=positions[parent] + offsets.reshape(-1, 3)[rows] * sizes[:, :3],
            colors=colors,
            opacities=raw[rows],
            scales=sizes[:, 3:] * torch.sigmoid(shape[:, :3]),
            quats=F.normalize(shape[:, 3:], dim=1),
            raw_opacities=raw,
            kept=kept,
        )
