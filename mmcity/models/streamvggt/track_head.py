"""Point tracking: dense features and an iterative tracker in the manner of CoTracker."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmcity.models.layers import Mlp

from .dpt_head import DPTHead
from .tracker_layers import (
    CorrelationPyramid,
    TrackBlock,
    TrackCrossBlock,
    embed_flow,
    embed_start,
    sample_features,
)


class UpdateFormer(nn.Module):
    """Attention over time and over tracks, the latter through a few virtual tracks.

    Args:
        dim_in: Channels of a token.
        hidden_size: Channels inside.
        dim_out: Channels of the update.
        depth: Rounds of time and space attention.
        num_heads: Attention heads.
        num_virtual_tracks: Learned tracks that mediate between points.
    """

    def __init__(
        self,
        dim_in: int,
        hidden_size: int,
        dim_out: int,
        depth: int,
        num_heads: int,
        num_virtual_tracks: int,
    ) -> None:
        super().__init__()
        self.input_norm = nn.LayerNorm(dim_in)
        self.input_transform = nn.Linear(dim_in, hidden_size)
        self.output_norm = nn.LayerNorm(hidden_size)
        self.flow_head = nn.Linear(hidden_size, dim_out)
        # The misspelt name is that of the published weights.
        self.virual_tracks = nn.Parameter(torch.randn(1, num_virtual_tracks, 1, hidden_size))

        def stack(block: type) -> nn.ModuleList:
            return nn.ModuleList(block(hidden_size, num_heads) for _ in range(depth))

        self.time_blocks = stack(TrackBlock)
        self.space_virtual_blocks = stack(TrackBlock)
        self.space_point2virtual_blocks = stack(TrackCrossBlock)
        self.space_virtual2point_blocks = stack(TrackCrossBlock)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(B, N, S, dim_in)`` to updates ``(B, N, S, dim_out)``."""
        batch, points, frames = tokens.shape[:3]
        start = self.input_transform(self.input_norm(tokens))
        virtual = self.virual_tracks.expand(batch, -1, frames, -1)
        x = torch.cat([start, virtual], dim=1)  # (B, N + V, S, hidden)
        for time, inner, to_virtual, to_point in zip(
            self.time_blocks,
            self.space_virtual_blocks,
            self.space_point2virtual_blocks,
            self.space_virtual2point_blocks,
        ):
            x = time(x.flatten(0, 1)).unflatten(0, (batch, -1))
            x = x.transpose(1, 2).flatten(0, 1)  # (B * S, N + V, hidden)
            seen, virtual = x[:, :points], x[:, points:]
            virtual = inner(to_point(virtual, seen))
            x = torch.cat([to_virtual(seen, virtual), virtual], dim=1)
            x = x.unflatten(0, (batch, frames)).transpose(1, 2)
        return self.flow_head(self.output_norm(x[:, :points] + start))


class Tracker(nn.Module):
    """Refines the positions of query points in all frames.

    Args:
        latent_dim: Channels of the feature maps. Defaults to 128.
        hidden_size: Channels of the update transformer. Defaults to 384.
        stride: Image pixels per feature pixel. Defaults to 2.
        corr_levels: Levels of the correlation pyramid. Defaults to 7.
        corr_radius: Half width of a correlation window. Defaults to 4.
        depth: Rounds of the update transformer. Defaults to 6.
        num_heads: Its attention heads. Defaults to 8.
        num_virtual_tracks: Its virtual tracks. Defaults to 64.
        max_scale: Divisor of the raw displacement input. Defaults to 518.
    """

    def __init__(
        self,
        latent_dim: int = 128,
        hidden_size: int = 384,
        stride: int = 2,
        corr_levels: int = 7,
        corr_radius: int = 4,
        depth: int = 6,
        num_heads: int = 8,
        num_virtual_tracks: int = 64,
        max_scale: float = 518,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.stride = stride
        self.corr_levels = corr_levels
        self.corr_radius = corr_radius
        self.max_scale = max_scale
        token_dim = 3 * latent_dim + 4
        self.query_ref_token = nn.Parameter(torch.randn(1, 2, token_dim))
        self.corr_mlp = Mlp(corr_levels * (2 * corr_radius + 1) ** 2, hidden_size, latent_dim)
        self.updateformer = UpdateFormer(
            token_dim, hidden_size, latent_dim + 2, depth, num_heads, num_virtual_tracks
        )
        self.fmap_norm = nn.LayerNorm(latent_dim)
        self.ffeat_norm = nn.GroupNorm(1, latent_dim)
        self.ffeat_updater = nn.Sequential(nn.Linear(latent_dim, latent_dim), nn.GELU())
        self.vis_predictor = nn.Sequential(nn.Linear(latent_dim, 1))
        self.conf_predictor = nn.Sequential(nn.Linear(latent_dim, 1))

    def forward(
        self,
        query_points: Tensor,
        maps: Tensor,
        iterations: int = 4,
        adjust_coords: Callable[[int, Tensor], Tensor] | None = None,
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Track points of frame 0.

        Args:
            query_points: Image pixels (x, y) in frame 0, ``(B, N, 2)``.
            maps: Features ``(B, S, C, H / stride, W / stride)``.
            iterations: Refinement passes. Defaults to 4.
            adjust_coords: Replaces the positions after an iteration: called with its index
                and ``(B, S, N, 2)`` in feature pixels.

        Returns:
            Positions in image pixels ``(B, S, N, 2)`` after each iteration, visibility and
            confidence logits ``(B, S, N)``.
        """
        frames, height, width = maps.shape[1], *maps.shape[-2:]
        maps = self.fmap_norm(maps.movedim(2, -1)).movedim(-1, 2)
        pyramid = CorrelationPyramid(maps, self.corr_levels, self.corr_radius)
        query = (query_points / self.stride).to(maps.dtype)
        coords = query[:, None].expand(-1, frames, -1, -1)  # (B, S, N, 2)
        features = sample_features(maps[:, 0], query, "border")  # (B, N, C)
        features = features[:, None].expand(-1, frames, -1, -1)
        reference = torch.cat(
            [self.query_ref_token[:, :1], self.query_ref_token[:, 1:].expand(-1, frames - 1, -1)],
            dim=1,
        )  # (1, S, token)
        start = embed_start(query, height, width, self.query_ref_token.shape[-1])
        constant = start[:, :, None] + reference[:, None]  # (B, N, S, token)
        outputs = []
        for iteration in range(iterations):
            coords = coords.detach()
            correlation = self.corr_mlp(pyramid(features, coords))  # (B, S, N, C)
            flow = coords - coords[:, :1]
            scaled = flow / self.max_scale
            tokens = torch.cat(
                [embed_flow(flow, self.latent_dim), scaled, scaled, correlation, features], dim=-1
            )
            update = self.updateformer(tokens.transpose(1, 2) + constant).transpose(1, 2)
            delta, feature_delta = update[..., :2], update[..., 2:]
            normalised = self.ffeat_norm(feature_delta.flatten(0, 2)).view_as(feature_delta)
            features = features + self.ffeat_updater(normalised)
            coords = coords + delta
            coords = torch.cat([query[:, None], coords[:, 1:]], dim=1)
            outputs.append(coords * self.stride)
            if adjust_coords is not None:
                coords = adjust_coords(iteration, coords)
        visibility = self.vis_predictor(features).squeeze(-1)
        confidence = self.conf_predictor(features).squeeze(-1)
        return outputs, visibility, confidence


class TrackHead(nn.Module):
    """Feature extractor and tracker.

    Args:
        dim_in: Channels of the tokens. Defaults to 2048.
        features: Channels of the feature maps. Defaults to 128.
        out_channels: See :class:`DPTHead`.
        layers: See :class:`DPTHead`.
        iters: Refinement passes. Defaults to 4.
        patch_size: Side of a patch. Defaults to 14.
        stride: Image pixels per feature pixel. Defaults to 2.
        **tracker: Further arguments of :class:`Tracker`.
    """

    def __init__(
        self,
        dim_in: int = 2048,
        features: int = 128,
        out_channels: Sequence[int] = (256, 512, 1024, 1024),
        layers: Sequence[int] = (4, 11, 17, 23),
        iters: int = 4,
        patch_size: int = 14,
        stride: int = 2,
        **tracker,
    ) -> None:
        super().__init__()
        self.iters = iters
        self.feature_extractor = DPTHead(
            dim_in,
            output_dim=None,
            features=features,
            out_channels=out_channels,
            layers=layers,
            patch_size=patch_size,
            down_ratio=stride,
            add_positions=False,
        )
        self.tracker = Tracker(latent_dim=features, stride=stride, **tracker)

    @property
    def layers(self) -> tuple[int, ...]:
        """Pairs that are read."""
        return self.feature_extractor.layers

    def extract(self, tokens: Mapping[int, Tensor], images: Tensor, num_special: int) -> Tensor:
        """Feature maps ``(B, S, features, H / stride, W / stride)``."""
        return self.feature_extractor(tokens, images, num_special)

    def track(self, query_points: Tensor, maps: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """See :meth:`Tracker.forward`; runs in float32."""
        with torch.autocast(device_type=maps.device.type, enabled=False):
            return self.tracker(query_points, maps.float(), self.iters)
