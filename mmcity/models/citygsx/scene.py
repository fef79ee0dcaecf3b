"""A scene of octree anchors, and how a camera sees it."""

from typing import Any

import torch
from torch import Tensor

from mmcity.models.layers import SceneModel
from mmcity.registry import MODELS
from mmcity.structures import SH_C0, Cameras, Gaussians
from mmcity.utils.precision import full_precision
from mmcity.utils.scalars import constant
from mmcity_ops import frustum_cull

from .anchors import OctreeAnchors
from .decoder import AnchorDecoder, NeuralGaussians
from .rendering import TILE, Splats, composite, find_planes, project_gaussians

#: Anchors decoded at once when the scene is baked.
BAKE_CHUNK = 1 << 16


class AnchorScene(SceneModel):
    """Anchors in an octree and small networks that decode them into Gaussians for each view.

    The scene is empty until :meth:`initialize` or until a checkpoint is loaded.

    Args:
        feat_dim: Width of the anchor features. Defaults to 32.
        n_offsets: Gaussians per anchor. Defaults to 10.
        anchors: Further arguments of :class:`OctreeAnchors`.
        decoder: Further arguments of :class:`AnchorDecoder`.
        background: Config of what is seen where no Gaussian is. Defaults to a fixed colour.
        exposure: Config of a colour model per photograph. Defaults to None.
        white_background: White instead of black behind the scene, without ``background``.
            Defaults to False.
        near_plane: Nearest depth of a Gaussian, world units. Defaults to 0.01.
        eps2d: Variance in px^2 of the low-pass filter. Defaults to 0.3.
        antialiased: Correct opacities for that filter. Defaults to False.
        ape_code: Photograph whose appearance test views take. Defaults to 0.
        **options: See :class:`SceneModel`; iterations are counted from 1 in views.
    """

    counts_views = True
    element = "anchor"

    def __init__(
        self,
        feat_dim: int = 32,
        n_offsets: int = 10,
        anchors: dict | None = None,
        decoder: dict | None = None,
        background: dict | None = None,
        exposure: dict | None = None,
        white_background: bool = False,
        near_plane: float = 0.01,
        eps2d: float = 0.3,
        antialiased: bool = False,
        ape_code: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.anchors = OctreeAnchors(feat_dim, n_offsets, **(anchors or {}))
        self.decoder = AnchorDecoder(feat_dim, n_offsets, **(decoder or {}))
        self.background = MODELS.build(
            background or dict(type="ConstantBackground", color=(float(white_background),) * 3)
        )
        self.exposure = None if exposure is None else MODELS.build(exposure)
        self.projection = dict(near_plane=near_plane, eps2d=eps2d, antialiased=antialiased)
        self.ape_code = ape_code

    # ---- the scene's beginning

    def initialize(
        self,
        cameras: Cameras,
        points: Tensor | None = None,
        colors: Tensor | None = None,
        is_trained: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Place the anchors.

        Args:
            cameras: The training cameras.
            points: (P, 3) points of the capture, world units.
            colors: Not used: colours are decoded.
            is_trained: (n_images,) bool in capture order, for the appearance table. Defaults
                to one row per training camera.
            generator: Not used.
        """
        if points is None:
            raise ValueError("capture: expected points to place anchors at, got none")
        self.views.initialize(cameras)
        self.anchors.initialize(points, cameras.centers)
        if self.decoder.appearance is not None:
            count = len(cameras) if is_trained is None else len(is_trained)
            self.decoder.appearance.initialize(count)
        self.initialize_exposure(cameras, is_trained)

    @property
    def is_antialiased(self) -> bool:
        """Whether its Gaussians are for a renderer that corrects opacities for its filter."""
        return bool(self.projection["antialiased"])

    @property
    def centers(self) -> Tensor:
        """(C, 3) centres of the training cameras."""
        rotations, shifts = self.views.viewmats[:, :3, :3], self.views.viewmats[:, :3, 3:]
        return -(rotations.transpose(1, 2) @ shifts)[..., 0]

    @property
    def summary(self) -> str:
        """One line about the scene for the log."""
        return f"{len(self.anchors)} anchors on {int(self.anchors.n_levels)} levels"

    # ---- rendering

    @torch.no_grad()
    @full_precision
    def visible(self, camera: Cameras) -> tuple[Tensor, Tensor | None]:
        """Anchors on the levels that a camera wants and in its frustum.

        Returns:
            (V,) int64 rows, and a factor (V,) on opacities where levels cross-fade.
        """
        anchors = self.anchors
        wanted, blend = anchors.select(camera.centers[0], int(self.iteration))
        width, height = camera.one_size()
        # Gaussians lie around the anchor within a few of its offset scales.
        radii = 3 * anchors.log_scales[:, :3].exp().amax(1)
        seen = frustum_cull(
            anchors.positions,
            radii,
            camera.viewmats.to(anchors.positions),
            camera.Ks.to(anchors.positions),
            width=width,
            height=height,
            near=self.projection["near_plane"],
            far=1e10,
        )[0]
        rows = (wanted & seen).nonzero()[:, 0]  # the one wait for both choices
        return rows, None if blend is None else blend[rows]

    def decode(
        self, rows: Tensor, viewpoints: Tensor, photograph: int | None, blend: Tensor | None = None
    ) -> NeuralGaussians:
        """Gaussians of the anchors ``rows``; see :class:`AnchorDecoder`."""
        names = ("positions", "features", "offsets", "log_scales", "levels")
        anchors = {name: getattr(self.anchors, name)[rows] for name in names}
        return self.decoder(**anchors, viewpoints=viewpoints, photograph=photograph, blend=blend)

    def project_view(
        self, camera: Cameras, photograph: int | None = None, with_geometry: bool = True
    ) -> dict[str, Any]:
        """First half of rendering: what a camera sees of the anchors held here.

        Returns:
            ``splats``, the decoded ``gaussians`` and ``rows`` of their anchors.
        """
        rows, blend = self.visible(camera)
        camera = camera.to(self.anchors.positions.device)
        gaussians = self.decode(rows, camera.centers[0], photograph, blend)
        splats = project_gaussians(gaussians, camera, with_geometry, **self.projection)
        return dict(splats=splats, gaussians=gaussians, rows=rows)

    @full_precision
    def draw(
        self,
        splats: Splats,
        camera: Cameras,
        image_id: int | None = None,
        tile_rows: tuple[int, int] | None = None,
    ) -> dict[str, Tensor]:
        """Second half of rendering, of all rows or of some.

        Args:
            splats: All that reach the rows.
            camera: One camera.
            image_id: Photograph whose exposure the colours take. Defaults to None: as they are.
            tile_rows: Rows of tiles, see :func:`composite`. Defaults to None: all.

        Returns:
            ``rgb`` (1, h, W, 3) not clamped, ``alpha`` (1, h, W, 1), ``work`` per row of tiles,
            and with geometry ``normals`` (1, h, W, 3) composited, camera axes, and
            ``distances`` (1, h, W, 1).
        """
        width, height = camera.one_size()
        features, alpha, work = composite(splats, width, height, tile_rows)
        behind = self.background(camera)  # (1, H, W, 3) or (1, 1, 1, 3)
        if tile_rows is not None and behind.shape[1] > 1:
            first = tile_rows[0] * TILE
            behind = behind[:, first : first + alpha.shape[1]]
        rgb = features[..., :3] + (1 - alpha) * behind
        if self.exposure is not None and image_id is not None:
            rgb = self.exposure(rgb, torch.tensor([image_id], device=rgb.device))
        maps = dict(rgb=rgb, alpha=alpha, work=work)
        if features.shape[-1] > 3:
            maps.update(normals=features[..., 3:6], distances=features[..., 6:7])
        return maps

    def render_view(
        self,
        camera: Cameras,
        photograph: int | None = None,
        with_geometry: bool = True,
        image_id: int | None = None,
    ) -> dict[str, Any]:
        """Render one camera: what :meth:`project_view` and :meth:`draw` give.

        With geometry also ``depth`` (1, H, W, 1) of the composited planes (0 where there is
        none) and ``usable`` (bool, same shape).
        """
        view = self.project_view(camera, photograph, with_geometry)
        camera = camera.to(self.anchors.positions.device)
        maps = self.draw(view["splats"], camera, image_id)
        return {**view, **(find_planes(maps, camera) if with_geometry else maps)}

    def render(self, cameras: Cameras, with_geometry: bool = True) -> dict[str, Any]:
        """Render cameras of one size: ``rgb``, ``alpha``, ``depth``, ``normals`` (C, H, W, .)."""
        views = [
            self.render_view(cameras[row], self.ape_code, with_geometry)
            for row in range(len(cameras))
        ]
        names = ("rgb", "alpha", *(("depth", "normals") if with_geometry else ()))
        return {name: torch.cat([view[name] for view in views]) for name in names}

    # ---- growth

    @property
    def table(self) -> OctreeAnchors:
        """The anchors."""
        return self.anchors

    @property
    def statistics(self) -> list[Tensor]:
        """Statistics of the anchors and their Gaussians in training views."""
        return [getattr(self.anchors, name) for name in self.anchors.STATISTICS]

    @torch.no_grad()
    def record_statistics(self) -> None:
        """Add the views of the last training step to the statistics of the anchors."""
        for view in self.take_views():
            means2d, ids, gaussians = view["means2d"], view["ids"], view["gaussians"]
            half = constant(view["size"], means2d) / 2
            drawn = torch.zeros(len(gaussians.means), dtype=torch.bool, device=half.device)
            drawn.index_fill_(0, ids, True)
            lengths = half.new_zeros(len(gaussians.means))
            if means2d.grad is not None:
                # The loss is a mean over views; statistics are those of one view.
                lengths[ids] = (means2d.grad * half).norm(dim=-1) * view["n_views"]
            self.anchors.record(
                view["rows"], gaussians.raw_opacities, gaussians.kept, drawn, lengths
            )

    def grow(self, strategy, optimizer, iteration, batch=1, shards=None) -> dict[str, int]:
        """See :meth:`SceneModel.grow`; the strategy gets the cameras' centres besides."""
        if not self.keeps_statistics:
            return {}
        self.record_statistics()
        return strategy.step(self.anchors, optimizer, iteration, self.centers, batch, shards)

    # ---- export

    @torch.no_grad()
    def to_gaussians(self, level: int | None = None, min_opacity: float = 1 / 255) -> Gaussians:
        """Bake the scene: plain Gaussians that do not depend on the view.

        Each anchor is decoded as its nearest training camera sees it.

        Args:
            level: Coarsest levels up to this one. Defaults to None: all.
            min_opacity: Fainter Gaussians are left out. Defaults to 1/255.

        Returns:
            Gaussians with constant colours, on the CPU.
        """
        anchors, centers = self.anchors, self.centers
        finest = anchors.finest_level(int(self.iteration)) if level is None else level
        rows = (anchors.levels <= finest).nonzero()[:, 0]
        parts = []
        for chunk in rows.split(BAKE_CHUNK):
            nearest = torch.cdist(anchors.positions[chunk], centers).argmin(1)
            out = self.decode(chunk, centers[nearest], self.ape_code)
            keep = out.opacities >= min_opacity
            values = (out.means, out.quats, out.scales, out.opacities, out.colors)
            parts.append([value[keep].cpu() for value in values])
        if not parts:
            raise ValueError(f"level: expected anchors on the levels up to {finest}, got none")
        means, quats, scales, opacities, colors = map(torch.cat, zip(*parts))
        sh0 = ((colors - 0.5) / SH_C0)[:, None]
        return self.placed(Gaussians(means, quats, scales, opacities, sh0=sh0))
