"""The anchors of a scene: what is optimised, and what growth remembers."""

import torch
from torch import Tensor, nn

from mmcity.models.layers import ResizableModule
from mmcity.utils.checks import check_choice
from mmcity_ops import knn_mean_dist2, select_lod

from .levels import (
    LevelTable,
    VoxelGrid3,
    coarse_intervals,
    current_level,
    fit_grid,
    fit_levels,
    place_anchors,
)

MIN_DISTANCE2 = 1e-7
DIST2LEVEL = ("round", "floor", "ceil", "progressive")


class OctreeAnchors(ResizableModule):
    """Octree of anchors (Octree-GS, Ren et al. 2024), empty until :meth:`initialize`.

    Args:
        feat_dim: Width of a feature. Defaults to 32.
        n_offsets: Gaussians per anchor. Defaults to 10.
        fork: Ratio of voxel edges between levels. Defaults to 2.
        default_voxel_size: Edge of the middle level, world units; the main knob of memory.
            None takes the median distance to the three nearest points, times
            ``spacing_factor``. Defaults to 0.001.
        spacing_factor: See ``default_voxel_size``. Defaults to 1.
        base_layer: Divisions that lead to level 0; negative derives them. Defaults to -1.
        levels: Number of levels; negative derives it. Defaults to -1.
        init_level: Finest level at the start; negative for half of them. Defaults to -1.
        extend: Factor on the box of the points. Defaults to 1.1.
        dist_ratio: Quantile of distances that decides the levels. Defaults to 0.999.
        visible_threshold: Share of cameras that must want an anchor. Defaults to 0.01.
        dist2level: ``round``, ``floor``, ``ceil``, or ``progressive``, which fades between
            levels. Defaults to ``round``.
        progressive: Let levels take part one after the other. Defaults to True.
        coarse_iter: Iteration at which the last level joins. Defaults to 10000.
        coarse_factor: Ratio of the waits between two levels. Defaults to 1.5.
        legacy_box: See :func:`fit_grid`. Defaults to False.

    Attributes:
        positions: ``(N, 3)`` parameter, world units.
        offsets: ``(N, k, 3)`` parameter, in units of the first three scales.
        features: ``(N, F)`` parameter.
        log_scales: ``(N, 6)`` parameter: of the offsets (3) and of the Gaussians (3).
        levels: ``(N,)`` int32.
        extra_levels: ``(N,)``, added to the level that a distance asks for.
        opacity_sum, view_count: ``(N,)`` statistics of anchors.
        gradient_sum, gradient_count: ``(N, k)`` statistics of Gaussians.
    """

    PARAMETERS = ("positions", "offsets", "features", "log_scales")
    STATISTICS = ("opacity_sum", "view_count", "gradient_sum", "gradient_count")
    BUFFERS = ("levels", "extra_levels", *STATISTICS)
    resizable = PARAMETERS + BUFFERS
    on_host = ("voxel_size", "standard_dist", "n_levels", "init_level")

    def __init__(
        self,
        feat_dim: int = 32,
        n_offsets: int = 10,
        fork: int = 2,
        default_voxel_size: float | None = 0.001,
        spacing_factor: float = 1.0,
        base_layer: int = -1,
        levels: int = -1,
        init_level: int = -1,
        extend: float = 1.1,
        dist_ratio: float = 0.999,
        visible_threshold: float = 0.01,
        dist2level: str = "round",
        progressive: bool = True,
        coarse_iter: int = 10000,
        coarse_factor: float = 1.5,
        legacy_box: bool = False,
    ) -> None:
        super().__init__()
        check_choice("dist2level", dist2level, DIST2LEVEL)
        if fork < 2:
            raise ValueError(f"fork: expected at least 2, got {fork}")
        self.n_offsets, self.fork = n_offsets, fork
        self.visible_threshold, self.dist2level = visible_threshold, dist2level
        self.progressive = progressive
        self.coarse_iter, self.coarse_factor = coarse_iter, coarse_factor
        self._level_options = dict(levels=levels, init_level=init_level, dist_ratio=dist_ratio)
        self._grid_options = dict(base_layer=base_layer, extend=extend, legacy_box=legacy_box)
        self.default_voxel_size, self.spacing_factor = default_voxel_size, spacing_factor
        shapes = dict(positions=(3,), offsets=(n_offsets, 3), features=(feat_dim,), log_scales=(6,))
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.zeros(0, *shape)))
        self.register_buffer("levels", torch.zeros(0, dtype=torch.int32))
        for name, shape in dict.fromkeys(("extra_levels", "opacity_sum", "view_count"), ()).items():
            self.register_buffer(name, torch.zeros(0, *shape))
        for name in ("gradient_sum", "gradient_count"):
            self.register_buffer(name, torch.zeros(0, n_offsets))
        self.register_buffer("origin", torch.zeros(3))
        self.register_buffer("voxel_size", torch.ones(()))
        self.register_buffer("standard_dist", torch.ones(()))
        self.register_buffer("n_levels", torch.ones((), dtype=torch.long))
        self.register_buffer("init_level", torch.zeros((), dtype=torch.long))

    def __len__(self) -> int:
        return len(self.positions)

    # ---- the beginning

    def initialize(self, points: Tensor, centers: Tensor) -> None:
        """Place anchors at the points of a capture.

        Args:
            points: ``(P, 3)`` world units.
            centers: ``(C, 3)`` centres of the training cameras.

        Raises:
            ValueError: On no points, non-finite points, or if no anchor is wanted.
        """
        if points.ndim != 2 or points.shape[1] != 3 or not len(points):
            raise ValueError(f"points: expected (P, 3) with P >= 1, got {tuple(points.shape)}")
        if not bool(torch.isfinite(points).all()):
            raise ValueError("points: expected finite coordinates, got NaN or infinite ones")
        points = points.float().unique(dim=0)
        centers = centers.to(points)
        table = fit_levels(points, centers, fork=self.fork, **self._level_options)
        size = self.default_voxel_size
        if size is None:
            spacing = float(knn_mean_dist2(points, k=3).sqrt().median())
            size = spacing * self.spacing_factor
        grid = fit_grid(points, size, table.n_levels, fork=self.fork, **self._grid_options)
        positions, levels = place_anchors(
            points, centers, grid, table, fork=self.fork, visible_threshold=self.visible_threshold
        )
        if not len(positions):
            raise ValueError(
                f"visible_threshold: expected one that leaves anchors of {len(points)} points, "
                f"got {self.visible_threshold}: lower it"
            )
        self.set_octree(grid, table)
        self.assign(positions, levels)

    def set_octree(self, grid: VoxelGrid3, table: LevelTable) -> None:
        """Take placement and levels."""
        self.origin.copy_(grid.origin)
        self.voxel_size.fill_(grid.voxel_size)
        self.standard_dist.fill_(table.standard_dist)
        self.n_levels.fill_(table.n_levels)
        self.init_level.fill_(table.init_level)

    def assign(self, positions: Tensor, levels: Tensor) -> None:
        """Replace all anchors by plain ones at ``positions`` (N, 3) of ``levels`` (N,)."""
        count = len(positions)
        distance2 = knn_mean_dist2(positions.float(), k=3).clamp_min(MIN_DISTANCE2)
        first = dict(positions=positions, log_scales=distance2.sqrt().log()[:, None].repeat(1, 6))
        for name in self.PARAMETERS:
            parameter = getattr(self, name)
            value = first.get(name, parameter.new_zeros(count, *parameter.shape[1:]))
            parameter.grad = None
            parameter.data = value.detach().to(parameter.data).clone()
        for name in self.BUFFERS:
            buffer = getattr(self, name)
            buffer.data = buffer.new_zeros(count, *buffer.shape[1:])
        self.levels.data = levels.to(self.levels)

    # ---- level of detail

    @property
    def intervals(self) -> list[float]:
        """Iterations after which one more level takes part."""
        return coarse_intervals(
            int(self.n_levels), int(self.init_level), self.coarse_iter, self.coarse_factor
        )

    def is_coarse(self, iteration: int) -> bool:
        """Whether some levels do not take part yet."""
        intervals = self.intervals
        return self.progressive and bool(intervals) and iteration <= intervals[-1]

    def finest_level(self, iteration: int | None) -> int:
        """Finest level that takes part; all of them where ``iteration`` is None."""
        count = int(self.n_levels)
        if iteration is None or not self.progressive:
            return count - 1
        return current_level(self.intervals, iteration, int(self.init_level), count)

    @torch.no_grad()
    def select(self, center: Tensor, iteration: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Anchors that a camera wants.

        Args:
            center: ``(3,)`` camera centre.
            iteration: Present iteration of a training. Defaults to None: all levels.

        Returns:
            ``(N,)`` bool, and with ``progressive`` distances a factor ``(N,)`` on opacities.
        """
        mask, ratio, transition = select_lod(
            self.positions.detach(),
            self.levels,
            self.extra_levels,
            center[None].to(self.positions),
            voxel_size=float(self.voxel_size),
            fork=self.fork,
            n_levels=self.finest_level(iteration) + 1,
            standard_dist=float(self.standard_dist),
            mode=self.dist2level,
        )
        if ratio is None:
            return mask[0], None
        return mask[0], torch.where(transition[0], ratio[0], 1.0)

    # ---- statistics

    @torch.no_grad()
    def record(
        self, rows: Tensor, raw_opacities: Tensor, kept: Tensor, drawn: Tensor, gradients: Tensor
    ) -> None:
        """Add one view to the statistics that growth reads.

        Args:
            rows: ``(V,)`` int64 decoded anchors.
            raw_opacities: ``(V k,)`` opacities before the choice.
            kept: ``(V k,)`` bool, which of them became Gaussians.
            drawn: ``(M,)`` bool, which Gaussians have a radius in the picture.
            gradients: ``(M,)`` length of the gradient of the projected mean, per unit of
                normalised device coordinates.
        """
        k = self.n_offsets
        self.opacity_sum.index_add_(0, rows, raw_opacities.clamp_min(0).view(-1, k).sum(1))
        self.view_count.index_add_(0, rows, torch.ones_like(self.view_count[rows]))
        if not len(drawn):
            return
        gaussian = (kept.cumsum(0) - 1).clamp_min(0)  # (V k,) number of the one it became
        seen = kept & drawn[gaussian]
        lengths = torch.where(seen, gradients[gaussian], 0.0).to(self.gradient_sum)
        self.gradient_sum.index_add_(0, rows, lengths.view(-1, k))
        self.gradient_count.index_add_(0, rows, seen.to(self.gradient_count).view(-1, k))
