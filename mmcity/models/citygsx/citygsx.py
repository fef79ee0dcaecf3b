"""CityGS-X: a scene of octree anchors, decoded into Gaussians for each view."""

from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor

from mmcity.models.layers import TrainingViews
from mmcity.registry import MODELS
from mmcity.structures import SH_C0, Cameras, Gaussians, SceneDataSample
from mmcity_ops import frustum_cull

from .anchors import OctreeAnchors
from .decoder import AnchorDecoder, NeuralGaussians
from .objective import Strip, Term
from .rendering import TILE, Splats, composite, find_planes, project_gaussians
from .resolution import reduce_resolution

__all__ = ["CityGSX"]

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601
#: Anchors decoded at once when the scene is baked.
BAKE_CHUNK = 1 << 16


@MODELS.register_module()
class CityGSX(BaseModel):
    """Anchors in an octree, small networks that decode them, and geometry losses.

    The scene is empty until :meth:`initialize` or until a checkpoint is loaded.

    Args:
        feat_dim: Width of the anchor features. Defaults to 32.
        n_offsets: Gaussians per anchor. Defaults to 10.
        anchors: Further arguments of :class:`OctreeAnchors`.
        decoder: Further arguments of :class:`AnchorDecoder`.
        objective: Config of the losses. Defaults to :class:`CityGSXObjective`.
        background: Config of what is seen where no Gaussian is. Defaults to a fixed colour.
        exposure: Config of a colour model per photograph. Defaults to None.
        white_background: White instead of black behind the scene, without ``background``.
            Defaults to False.
        near_plane: Nearest depth of a Gaussian, world units. Defaults to 0.01.
        eps2d: Variance in px^2 of the low-pass filter. Defaults to 0.3.
        antialiased: Correct opacities for that filter. Defaults to False.
        ape_code: Photograph whose appearance test views take. Defaults to 0.
        resolution_schedule: Pairs (iteration, factor) in rising order: from that iteration on
            (counted from 1 in views) pictures are trained ``factor`` times smaller. Defaults to
            None: full size throughout.
        coverage_views: Training frames a pixel's point must lie in to count as covered.
            Defaults to 2.
        data_preprocessor: Defaults to :class:`PosedImagePreprocessor`.
        init_cfg: See mmengine. Defaults to None.
    """

    def __init__(
        self,
        feat_dim: int = 32,
        n_offsets: int = 10,
        anchors: dict | None = None,
        decoder: dict | None = None,
        objective: dict | None = None,
        background: dict | None = None,
        exposure: dict | None = None,
        white_background: bool = False,
        near_plane: float = 0.01,
        eps2d: float = 0.3,
        antialiased: bool = False,
        ape_code: int = 0,
        resolution_schedule: list[tuple[int, int]] | None = None,
        coverage_views: int = 2,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        preprocessor = MODELS.build(data_preprocessor or dict(type="PosedImagePreprocessor"))
        super().__init__(preprocessor, init_cfg)
        self.anchors = OctreeAnchors(feat_dim, n_offsets, **(anchors or {}))
        self.decoder = AnchorDecoder(feat_dim, n_offsets, **(decoder or {}))
        self.views = TrainingViews()
        self.objective = MODELS.build(objective or dict(type="CityGSXObjective"))
        self.background = MODELS.build(
            background or dict(type="ConstantBackground", color=(float(white_background),) * 3)
        )
        self.exposure = None if exposure is None else MODELS.build(exposure)
        self.projection = dict(near_plane=near_plane, eps2d=eps2d, antialiased=antialiased)
        self.resolution_schedule = list(resolution_schedule or [])
        self.ape_code = ape_code
        self.coverage_views = coverage_views
        #: Present iteration, counted from 1 in views; schedules and levels follow it.
        self.register_buffer("iteration", torch.ones((), dtype=torch.long))
        #: Set by the growth hook: remember what growth needs of each training view.
        self.keeps_statistics = False
        self._records: list[dict[str, Any]] = []

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
            raise ValueError("the capture has no points to place anchors at")
        self.views.initialize(cameras)
        self.anchors.initialize(points, cameras.centers)
        if self.decoder.appearance is not None:
            count = len(cameras) if is_trained is None else len(is_trained)
            self.decoder.appearance.initialize(count)
        if self.exposure is not None:
            rows = torch.ones(len(cameras), dtype=torch.bool) if is_trained is None else is_trained
            self.exposure.initialize(rows)

    @property
    def scene_extent(self) -> float:
        """Radius of the training camera centres, world units."""
        return float(self.views.extent)

    @property
    def centers(self) -> Tensor:
        """(C, 3) centres of the training cameras."""
        rotations, shifts = self.views.viewmats[:, :3, :3], self.views.viewmats[:, :3, 3:]
        return -(rotations.transpose(1, 2) @ shifts)[..., 0]

    @property
    def summary(self) -> str:
        """What the scene consists of, for the log."""
        return f"{len(self.anchors)} anchors on {int(self.anchors.n_levels)} levels"

    # ---- rendering

    @torch.no_grad()
    def visible(self, camera: Cameras) -> tuple[Tensor, Tensor | None]:
        """Anchors on the levels that a camera wants and in its frustum.

        Returns:
            (V,) int64 rows, and a factor (V,) on opacities where levels cross-fade.
        """
        anchors = self.anchors
        wanted, blend = anchors.select(camera.centers[0], int(self.iteration))
        rows = wanted.nonzero()[:, 0]
        width, height = camera.one_size()
        # Gaussians lie around the anchor within a few of its offset scales.
        radii = 3 * anchors.log_scales[rows, :3].exp().amax(1)
        seen = frustum_cull(
            anchors.positions[rows],
            radii,
            camera.viewmats.to(anchors.positions),
            camera.Ks.to(anchors.positions),
            width,
            height,
            self.projection["near_plane"],
            1e10,
        )[0]
        rows = rows[seen]
        return rows, None if blend is None else blend[rows]

    def decode(
        self, rows: Tensor, viewpoints: Tensor, photograph: int | None, blend: Tensor | None = None
    ) -> NeuralGaussians:
        """Gaussians of the anchors ``rows``; see :class:`AnchorDecoder`."""
        a = self.anchors
        return self.decoder(
            a.positions[rows],
            a.features[rows],
            a.offsets[rows],
            a.log_scales[rows],
            a.levels[rows],
            viewpoints,
            photograph,
            blend,
        )

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

    def train_step(self, data: dict, optim_wrapper: Any) -> dict[str, Tensor]:
        """As in mmengine; what is logged keeps no graph alive, since the scene may be edited."""
        log = super().train_step(data, optim_wrapper)
        return {name: value.detach() for name, value in log.items()}

    def forward(
        self,
        inputs: Tensor | list[Tensor] | None,
        data_samples: list[SceneDataSample],
        mode: str = "tensor",
    ) -> dict[str, Tensor] | list[SceneDataSample] | list[dict[str, Any]]:
        """Losses, samples with renders, or plain renders.

        Args:
            inputs: Photographs, (B, 3, H, W) or a list of (3, H, W), in [0, 1]. Only ``loss``
                needs them.
            data_samples: B samples with ``camera``; for training optionally
                ``inverse_depth``, ``neighbour_image``, ``neighbour_camera``.
            mode: ``loss``, ``predict`` or ``tensor``.
        """
        if mode == "loss":
            return self.loss(inputs, data_samples)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        if mode == "tensor":
            return [self.render(sample.camera) for sample in data_samples]
        raise ValueError(f"mode must be 'loss', 'predict' or 'tensor', received '{mode}'")

    # ---- training

    def loss(
        self, inputs: Tensor | list[Tensor], data_samples: list[SceneDataSample]
    ) -> dict[str, Tensor]:
        """Losses, averaged over the views of the batch."""
        self._records = []
        iteration = int(self.iteration)
        total: dict[str, Tensor] = {}
        for number, (picture, sample) in enumerate(zip(inputs, data_samples)):
            terms = self._view_terms(iteration, number, picture, sample, len(data_samples))
            for name, value in terms.items():
                value = value / len(data_samples)
                total[name] = total[name] + value if name in total else value
        if self.exposure is not None:
            total["loss_exposure"] = self.exposure.penalty(_image_ids(data_samples))
        return total

    def _view_terms(self, iteration, number, picture, sample, n_views) -> dict[str, Tensor]:
        picture, sample = self.reduce_resolution(picture, sample)
        with_geometry = self.objective.needs_geometry(iteration)
        camera, index = sample.camera, sample.get("camera_index")
        view = self.render_view(camera, index, with_geometry, index)
        self.remember(view, camera, n_views)
        neighbour = None
        if self.objective.uses_neighbours(iteration) and "neighbour_image" in sample:
            with torch.no_grad():
                other = self.render_view(sample.neighbour_camera, index)
            neighbour = self.neighbour_maps(sample, other["depth"][0, ..., 0])
        strip = Strip.of(0, picture.shape[1], picture.shape[1])
        scales = view["gaussians"].scales[view["splats"].ids]
        terms = self.judge(iteration, number, view, picture, sample, scales, neighbour, strip)
        values = {name: term.value() for name, term in terms.items()}
        return {
            name: value if bool(torch.isfinite(value)) else torch.zeros_like(value)
            for name, value in values.items()
        }

    # The steps of a training view; processes that share a scene take them one by one.

    def reduce_resolution(self, picture: Tensor, sample: SceneDataSample):
        """Picture and sample at the size that the resolution schedule asks for."""
        factor = 1
        for start, value in self.resolution_schedule:
            if int(self.iteration) >= start:
                factor = value
        return reduce_resolution(picture, sample, factor)

    def remember(self, view: dict[str, Any], camera: Cameras, n_views: int) -> None:
        """Keep what :meth:`record_statistics` needs of a training view, if it is called for."""
        if not self.keeps_statistics:
            return
        if view["splats"].means2d.requires_grad:
            view["splats"].means2d.retain_grad()
        size = camera.one_size()
        names = ("splats", "gaussians", "rows")
        self._records.append({**{n: view[n] for n in names}, "size": size, "n_views": n_views})

    def neighbour_maps(self, sample: SceneDataSample, depth: Tensor) -> dict[str, Tensor]:
        """What the losses need of the second view with rendered depth (H, W)."""
        camera, image = sample.neighbour_camera, sample.neighbour_image
        image = image.float() / 255 if image.dtype == torch.uint8 else image
        return dict(depth=depth, K=camera.Ks[0], viewmat=camera.viewmats[0], grey=_grey(image))

    def judge(
        self,
        iteration: int,
        number: int,
        maps: dict[str, Tensor],
        picture: Tensor,
        sample: SceneDataSample,
        scales: Tensor,
        neighbour: dict[str, Tensor] | None,
        strip: Strip,
        total_of=int,
    ) -> dict[str, Term]:
        """Terms of the losses on a strip of a view.

        Args:
            iteration: Counted from 1 in views.
            number: Of the view in the batch.
            maps: Rendered rows of the strip and its halo.
            picture: (3, H, W) photograph, whole.
            sample: Camera, prior.
            scales: (M, 3) of the Gaussians that this process put into the picture.
            neighbour: See :meth:`neighbour_maps`.
            strip: The rows.
            total_of: Sums a number over the processes.
        """
        geometry = None
        if self.objective.needs_geometry(iteration):
            camera = sample.camera
            geometry = dict(
                depth=maps["depth"][0, ..., 0],
                normals=maps["normals"][0].permute(2, 0, 1),
                distances=maps["distances"][0, ..., 0],
                alpha=maps["alpha"][0, ..., 0],
                usable=maps["usable"][0, ..., 0],
                K=camera.Ks[0],
                viewmat=camera.viewmats[0],
                grey=_grey(picture),
            )
        # One stream of random numbers per view, the same on all processes.
        generator = torch.Generator().manual_seed(iteration * 4096 + number)
        return self.objective.terms(
            iteration,
            maps["rgb"][0].permute(2, 0, 1),
            picture,
            scales,
            geometry,
            sample.get("inverse_depth"),
            neighbour,
            generator,
            strip,
            total_of,
            self.scene_extent,
        )

    @torch.no_grad()
    def record_statistics(self) -> None:
        """Add the views of the last training step to the statistics of the anchors."""
        records, self._records = self._records, []
        for view in records:
            splats, gaussians = view["splats"], view["gaussians"]
            half = splats.means2d.new_tensor(view["size"]) / 2
            drawn = torch.zeros(len(gaussians.means), dtype=torch.bool, device=half.device)
            drawn[splats.ids] = True
            lengths = torch.zeros(len(gaussians.means), device=half.device)
            if splats.means2d.grad is not None:
                # The loss is a mean over views; statistics are those of one view.
                lengths[splats.ids] = (splats.means2d.grad * half).norm(dim=-1) * view["n_views"]
            self.anchors.record(
                view["rows"], gaussians.raw_opacities, gaussians.kept, drawn, lengths
            )

    # ---- testing

    @torch.no_grad()
    def predict(
        self, inputs: Tensor | list[Tensor] | None, data_samples: list[SceneDataSample]
    ) -> list[SceneDataSample]:
        """Add renders to the samples.

        Sets ``pred_image`` (3, H, W), ``pred_depth`` (H, W) of the composited planes (0 where
        there is none), ``pred_alpha`` (H, W), ``pred_normal`` (3, H, W) in camera axes,
        ``pred_covered`` (H, W) bool, and ``gt_image`` where there is a photograph.
        """
        for row, sample in enumerate(data_samples):
            image_id = sample.get("camera_index") if self.exposure is not None else None
            view = self.render_view(sample.camera, self.ape_code, image_id=image_id)
            self.fill_sample(sample, view, None if inputs is None else inputs[row])
            count = len(view["splats"])
            sample.set_metainfo(dict(n_anchors=len(self.anchors), n_gaussians=count))
        return data_samples

    def fill_sample(
        self, sample: SceneDataSample, maps: dict[str, Tensor], photograph: Tensor | None
    ) -> None:
        """Put a rendered view and its photograph into a sample, see :meth:`predict`."""
        sample.pred_image = maps["rgb"][0].permute(2, 0, 1).clamp(0, 1).contiguous()
        sample.pred_alpha = maps["alpha"][0, ..., 0]
        sample.pred_depth = maps["depth"][0, ..., 0]
        normals = torch.nn.functional.normalize(maps["normals"][0], dim=-1)
        sample.pred_normal = normals.permute(2, 0, 1).contiguous()
        sample.pred_covered = self.views.covered(
            sample.camera, sample.pred_depth, sample.pred_alpha, self.coverage_views
        )
        if photograph is not None:
            sample.gt_image = photograph

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
            raise ValueError(f"no anchor lies on the levels up to {finest}")
        means, quats, scales, opacities, colors = map(torch.cat, zip(*parts))
        sh0 = ((colors - 0.5) / SH_C0)[:, None]
        return Gaussians(means, quats, scales, opacities, sh0=sh0)


def _grey(image: Tensor) -> Tensor:
    return (image * image.new_tensor(GREY)[:, None, None]).sum(0)


def _image_ids(samples: list[SceneDataSample]) -> Tensor:
    return torch.tensor([sample.camera_index for sample in samples])
