"""CityGS-X: a scene of octree anchors, decoded into Gaussians for each view."""

from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor

from mmcity.models.layers import TrainingViews
from mmcity.registry import MODELS
from mmcity.structures import SH_C0, Cameras, Gaussians, SceneDataSample
from mmcity_ops import frustum_cull, rasterization

from .anchors import OctreeAnchors
from .decoder import AnchorDecoder, NeuralGaussians

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
        white_background: White instead of black behind the scene. Defaults to False.
        near_plane: Nearest depth of a Gaussian, world units. Defaults to 0.01.
        eps2d: Variance in px^2 of the low-pass filter. Defaults to 0.3.
        antialiased: Correct opacities for that filter. Defaults to False.
        ape_code: Photograph whose appearance test views take. Defaults to 0.
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
        white_background: bool = False,
        near_plane: float = 0.01,
        eps2d: float = 0.3,
        antialiased: bool = False,
        ape_code: int = 0,
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
        self.register_buffer(
            "background", torch.full((1, 3), float(white_background)), persistent=False
        )
        self.near_plane = near_plane
        self.render_options = dict(
            eps2d=eps2d, rasterize_mode="antialiased" if antialiased else "classic"
        )
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
            self.near_plane,
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

    def render_view(
        self, camera: Cameras, photograph: int | None = None, with_geometry: bool = True
    ) -> dict[str, Any]:
        """Render one camera.

        Returns:
            ``rgb`` (1, H, W, 3) not clamped, ``alpha`` (1, H, W, 1), ``gaussians``, ``rows``,
            ``meta``, and with geometry ``depth`` (1, H, W, 1) of the composited planes (0
            where there is none), ``usable`` (bool, same shape), ``normals`` (1, H, W, 3)
            composited, camera axes, ``distances`` (1, H, W, 1).
        """
        rows, blend = self.visible(camera)
        camera = camera.to(self.anchors.positions.device)
        gaussians = self.decode(rows, camera.centers[0], photograph, blend)
        width, height = camera.one_size()
        images, alpha, meta = rasterization(
            gaussians.means,
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            gaussians.colors,
            camera.viewmats,
            camera.Ks,
            width,
            height,
            render_mode="RGB+N+P" if with_geometry else "RGB",
            camera_model=camera.camera_model,
            backgrounds=self.background,
            near_plane=self.near_plane,
            packed=True,
            **self.render_options,
        )
        out = dict(rgb=images[..., :3], alpha=alpha, gaussians=gaussians, rows=rows, meta=meta)
        if with_geometry:
            usable = meta["plane_valid"].reshape(alpha.shape)
            out.update(
                normals=images[..., 3:6],
                depth=images[..., 6:7],
                usable=usable,
                distances=meta["plane_distance"],
            )
        return out

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
        for picture, sample in zip(inputs, data_samples):
            terms = self._view_terms(iteration, picture, sample, len(data_samples))
            for name, value in terms.items():
                value = value / len(data_samples)
                total[name] = total[name] + value if name in total else value
        return total

    def _view_terms(self, iteration, picture, sample, n_views) -> dict[str, Tensor]:
        needs_geometry = self.objective.needs_geometry(iteration)
        camera = sample.camera
        view = self.render_view(camera, sample.get("camera_index"), needs_geometry)
        meta = view["meta"]
        if self.keeps_statistics:
            if meta["means2d"].requires_grad:
                meta["means2d"].retain_grad()
            self._records.append({**view, "n_views": n_views})
        geometry = neighbour = None
        if needs_geometry:
            geometry = dict(
                depth=view["depth"][0, ..., 0],
                normals=view["normals"][0].permute(2, 0, 1),
                distances=view["distances"][0, ..., 0],
                alpha=view["alpha"][0, ..., 0],
                usable=view["usable"][0, ..., 0],
                K=camera.Ks[0],
                viewmat=camera.viewmats[0],
                grey=_grey(picture),
            )
            if self.objective.uses_neighbours(iteration) and "neighbour_image" in sample:
                neighbour = self._neighbour(sample)
        return self.objective(
            iteration,
            view["rgb"][0].permute(2, 0, 1),
            picture,
            view["gaussians"].scales[meta["gaussian_ids"]],
            geometry,
            sample.get("inverse_depth"),
            neighbour,
        )

    @torch.no_grad()
    def _neighbour(self, sample: SceneDataSample) -> dict[str, Tensor]:
        camera = sample.neighbour_camera
        view = self.render_view(camera, sample.get("camera_index"))
        image = sample.neighbour_image
        image = image.float() / 255 if image.dtype == torch.uint8 else image
        return dict(
            depth=view["depth"][0, ..., 0],
            K=camera.Ks[0],
            viewmat=camera.viewmats[0],
            grey=_grey(image),
        )

    @torch.no_grad()
    def record_statistics(self) -> None:
        """Add the views of the last training step to the statistics of the anchors."""
        records, self._records = self._records, []
        for view in records:
            meta, gaussians = view["meta"], view["gaussians"]
            half = meta["means2d"].new_tensor([meta["width"] / 2, meta["height"] / 2])
            ids = meta["gaussian_ids"]
            drawn = torch.zeros(len(gaussians.means), dtype=torch.bool, device=ids.device)
            drawn[ids] = True
            lengths = torch.zeros(len(gaussians.means), device=ids.device)
            if meta["means2d"].grad is not None:
                # The loss is a mean over views; statistics are those of one view.
                lengths[ids] = (meta["means2d"].grad * half).norm(dim=-1) * view["n_views"]
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
            view = self.render_view(sample.camera, self.ape_code)
            sample.pred_image = view["rgb"][0].permute(2, 0, 1).clamp(0, 1).contiguous()
            sample.pred_alpha = view["alpha"][0, ..., 0]
            sample.pred_depth = view["depth"][0, ..., 0]
            normals = torch.nn.functional.normalize(view["normals"][0], dim=-1)
            sample.pred_normal = normals.permute(2, 0, 1).contiguous()
            sample.pred_covered = self.views.covered(
                sample.camera, sample.pred_depth, sample.pred_alpha, self.coverage_views
            )
            if inputs is not None:
                sample.gt_image = inputs[row]
            sample.set_metainfo(
                dict(n_anchors=len(self.anchors), n_gaussians=len(view["gaussians"].means))
            )
        return data_samples

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
