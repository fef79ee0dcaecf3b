"""3D Gaussian splatting: the model is the scene."""

from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from mmcity.models.layers import TrainingViews
from mmcity.registry import MODELS
from mmcity.structures import Cameras, Gaussians, SceneDataSample

from .initialization import random_points, splats_from_points
from .splats import SplatParameters

__all__ = ["GaussianSplatting"]


@MODELS.register_module()
class GaussianSplatting(BaseModel):
    """A scene of Gaussians, optimised so that its renders equal photographs.

    The scene is empty until :meth:`initialize` (the scene hook calls it at the start of a
    training) or until a checkpoint is loaded, which restores a scene of any size.

    Args:
        sh_degree: Degree of the spherical harmonics of the colours. Defaults to 3.
        sh_degree_interval: Iterations after which one more degree takes part. Defaults to
            1000.
        init: How the scene starts: ``source`` (``points`` of the capture, or ``random``),
            ``count`` and ``spread`` (of random points; the cube's half edge over the scene's
            extent), ``opacity``, ``scale_factor``, ``max_scale`` (bound of the scales over the
            extent). Defaults to points, see :func:`splats_from_points`.
        renderer: Config of the renderer. Defaults to :class:`SplatRenderer`.
        exposure: Config of a per-photograph colour model. Defaults to None.
        losses: Configs by name. A loss gets prediction, target and mask, unless its
            attribute ``applies_to`` asks for the Gaussians: ``opacities``, ``scales``, or
            ``scales and extent``. Defaults to 0.8 L1 + 0.2 SSIM.
        resolution_schedule: Pairs (iteration, factor) in rising order: from that iteration
            on, training pictures are reduced by that whole factor. Defaults to full size.
        coverage_views: Training frames a pixel's point must lie in to count as covered in
            the coverage-masked metric. Defaults to 2.
        data_preprocessor: Defaults to :class:`PosedImagePreprocessor`.
        init_cfg: See mmengine. Defaults to None.
    """

    def __init__(
        self,
        sh_degree: int = 3,
        sh_degree_interval: int = 1000,
        init: dict | None = None,
        renderer: dict | None = None,
        exposure: dict | None = None,
        losses: dict[str, dict] | None = None,
        resolution_schedule: list[tuple[int, int]] | None = None,
        coverage_views: int = 2,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        preprocessor = MODELS.build(data_preprocessor or dict(type="PosedImagePreprocessor"))
        super().__init__(preprocessor, init_cfg)
        self.splats = SplatParameters(sh_degree)
        self.views = TrainingViews()
        self.renderer: nn.Module = MODELS.build(renderer or dict(type="SplatRenderer"))
        self.exposure = None if exposure is None else MODELS.build(exposure)
        losses = losses or dict(
            loss_l1=dict(type="L1Loss", loss_weight=0.8),
            loss_ssim=dict(type="SSIMLoss", loss_weight=0.2),
        )
        self.losses = nn.ModuleDict({name: MODELS.build(cfg) for name, cfg in losses.items()})
        self.init_options = dict(init or {})
        self.sh_degree_interval = sh_degree_interval
        self.resolution_schedule = list(resolution_schedule or [])
        self.coverage_views = coverage_views
        #: Number of the present iteration; the SH degree in use follows from it.
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long))
        #: Set by the densification hook: keep gradients of the projected means.
        self.keeps_meta = False
        self.absgrad = False
        self._render_meta: list[dict[str, Any]] = []

    # ---- the scene's beginning

    def initialize(
        self,
        cameras: Cameras,
        points: Tensor | None = None,
        colors: Tensor | None = None,
        is_trained: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Make the first scene.

        Args:
            cameras: The training cameras.
            points: (P, 3) points of the capture, world units.
            colors: (P, 3) their colours in [0, 1].
            is_trained: (n_images,) bool in capture order, for the exposure table. Defaults to
                one row per training camera.
            generator: Source of randomness.
        """
        self.views.initialize(cameras)
        extent = float(self.views.extent)
        options = dict(self.init_options)
        source = options.pop("source", "points")
        count, spread = options.pop("count", 100_000), options.pop("spread", 3.0)
        if source == "random":
            centre = cameras.centers.mean(0)
            points, colors = random_points(count, centre, spread * extent, generator)
        elif source != "points":
            raise ValueError(f"init.source must be 'points' or 'random', received '{source}'")
        elif points is None or colors is None:
            raise ValueError("the capture has no points: set init.source='random' in the model")
        if "max_scale" in options:
            options["max_scale"] = options["max_scale"] * extent
        self.splats.assign(
            **splats_from_points(points, colors, sh_degree=self.splats.sh_degree, **options)
        )
        if self.exposure is not None:
            rows = torch.ones(len(cameras), dtype=torch.bool) if is_trained is None else is_trained
            self.exposure.initialize(rows)

    @property
    def scene_extent(self) -> float:
        """Radius of the training camera centres, world units."""
        return float(self.views.extent)

    @property
    def summary(self) -> str:
        """What the scene consists of, for the log."""
        return f"{len(self.splats)} Gaussians"

    def to_gaussians(self) -> Gaussians:
        """The scene after activation, without gradients, on the CPU."""
        return self.splats.to_gaussians()

    @property
    def active_sh_degree(self) -> int:
        """Degree of the spherical harmonics in use at this iteration."""
        if not self.sh_degree_interval:
            return self.splats.sh_degree
        return min(int(self.iteration) // self.sh_degree_interval, self.splats.sh_degree)

    def take_render_meta(self) -> list[dict[str, Any]]:
        """Hand over the ``meta`` of the last training step and forget it."""
        meta, self._render_meta = self._render_meta, []
        return meta

    # ---- rendering

    def render(self, cameras: Cameras, with_geometry: bool = True) -> dict[str, Any]:
        """Render cameras of one size; see :meth:`SplatRenderer.forward`."""
        splats = self.splats
        return self.renderer(
            splats.means,
            splats.quats,
            splats.scales,
            splats.opacities,
            (splats.sh0, splats.shN),
            cameras,
            sh_degree=self.active_sh_degree,
            with_geometry=with_geometry,
            absgrad=self.training and self.absgrad,
        )

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
            data_samples: B samples with ``camera`` and, for the exposure, the meta value
                ``camera_index``.
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
        self._render_meta = []
        total: dict[str, Tensor] = {}
        for rows in _rows_of_one_size(inputs):
            targets = torch.stack([inputs[row] for row in rows])  # (C, 3, H, W)
            samples = [data_samples[row] for row in rows]
            cameras = Cameras.cat([sample.camera for sample in samples])
            masks = [getattr(sample, "gt_mask", None) for sample in samples]
            mask = None if any(m is None for m in masks) else torch.stack(masks)
            targets, cameras, mask = self._reduce(targets, cameras, mask)
            render = self.render(cameras, with_geometry=False)
            self._keep(render["meta"], len(data_samples))
            rgb = render["rgb"]
            if self.exposure is not None:
                rgb = self.exposure(rgb, _image_ids(samples, rgb.device))
            prediction = rgb.permute(0, 3, 1, 2)  # (C, 3, H, W)
            share = len(rows) / len(data_samples)
            for name, loss in self.losses.items():
                if _applies_to(loss) == "picture":
                    value = share * loss(prediction, targets, mask)
                    total[name] = total[name] + value if name in total else value
        total.update(self._regularization(data_samples))
        return total

    def _regularization(self, data_samples: list[SceneDataSample]) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        for name, loss in self.losses.items():
            kind = _applies_to(loss)
            if kind == "opacities":
                values[name] = loss(self.splats.opacities)
            elif kind == "scales":
                values[name] = loss(self.splats.scales)
            elif kind == "scales and extent":
                values[name] = loss(self.splats.scales, self.scene_extent)
        if self.exposure is not None:
            ids = _image_ids(data_samples, self.splats.means.device)
            values["loss_exposure"] = self.exposure.penalty(ids)
        return values

    def _reduce(
        self, targets: Tensor, cameras: Cameras, mask: Tensor | None
    ) -> tuple[Tensor, Cameras, Tensor | None]:
        factor = 1
        for start, value in self.resolution_schedule:
            if int(self.iteration) >= start:
                factor = value
        if factor == 1:
            return targets, cameras, mask
        height, width = targets.shape[-2] // factor, targets.shape[-1] // factor
        # Whole blocks only: what is left over at the right and bottom edge is cut off, so
        # that the intrinsics scale exactly.
        targets = F.avg_pool2d(targets, factor)
        cameras = cameras.crop(0, 0, width * factor, height * factor).resize(width, height)
        if mask is not None:
            mask = F.avg_pool2d(mask.float()[:, None], factor)[:, 0] == 1
        return targets, cameras, mask

    def _keep(self, meta: dict[str, Any], n_views: int) -> None:
        if not self.keeps_meta:
            return
        if meta["means2d"].requires_grad:
            meta["means2d"].retain_grad()
        self._render_meta.append({**meta, "n_views": n_views})

    # ---- testing

    @torch.no_grad()
    def predict(
        self, inputs: Tensor | list[Tensor] | None, data_samples: list[SceneDataSample]
    ) -> list[SceneDataSample]:
        """Add renders to the samples.

        Sets ``pred_image`` (3, H, W), ``pred_depth`` (H, W), ``pred_alpha`` (H, W),
        ``pred_normal`` (3, H, W) in camera axes, ``pred_covered`` (H, W) bool (where enough
        training views saw the point), and ``gt_image`` where there is a photograph.
        """
        for row, sample in enumerate(data_samples):
            render = self.render(sample.camera)
            rgb = render["rgb"]
            if self.exposure is not None:
                rgb = self.exposure(rgb, _image_ids([sample], rgb.device))
            sample.pred_image = rgb[0].permute(2, 0, 1).clamp(0, 1).contiguous()
            sample.pred_alpha = render["alpha"][0, ..., 0]
            sample.pred_depth = render["depth"][0, ..., 0]
            sample.pred_normal = render["normals"][0].permute(2, 0, 1).contiguous()
            sample.pred_covered = self.views.covered(
                sample.camera, sample.pred_depth, sample.pred_alpha, self.coverage_views
            )
            if inputs is not None:
                sample.gt_image = inputs[row]
            sample.set_metainfo(dict(n_gaussians=len(self.splats)))
        return data_samples


def _applies_to(loss: nn.Module) -> str:
    """What a loss wants to be called with; losses of other packages judge the picture."""
    return getattr(loss, "applies_to", "picture")


def _rows_of_one_size(inputs: Tensor | list[Tensor]) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(inputs):
        groups.setdefault(tuple(image.shape), []).append(row)
    return list(groups.values())


def _image_ids(samples: list[SceneDataSample], device: torch.device) -> Tensor:
    return torch.tensor([sample.camera_index for sample in samples], device=device)
