"""Base class of models that are a scene."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmcity.registry import MODELS
from mmcity.structures import Cameras, SceneDataSample

from .training_views import TrainingViews

__all__ = ["SceneModel", "SplatSceneModel", "image_ids"]


class SceneModel(BaseModel):
    """A scene that is optimised so that its renders equal photographs.

    A subclass has ``render(cameras)``, ``loss(inputs, data_samples)`` and ``predict(inputs,
    data_samples)``.

    Args:
        first_iteration: Number of the first iteration. Defaults to 0.
        resolution_schedule: Pairs (iteration, factor) in rising order: from that iteration
            on, training pictures are reduced by that whole factor. Defaults to full size.
        coverage_views: Training frames a pixel's point must lie in to count as covered in
            the coverage-masked metric. Defaults to 2.
        data_preprocessor: Defaults to :class:`PosedImagePreprocessor`.
        init_cfg: See mmengine. Defaults to None.
    """

    #: Colour model per photograph, built by the subclasses that have one.
    exposure: nn.Module | None

    def __init__(
        self,
        first_iteration: int = 0,
        resolution_schedule: Sequence[tuple[int, int]] | None = None,
        coverage_views: int = 2,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        preprocessor = MODELS.build(data_preprocessor or dict(type="PosedImagePreprocessor"))
        super().__init__(preprocessor, init_cfg)
        self.views = TrainingViews()
        self.resolution_schedule = list(resolution_schedule or [])
        self.coverage_views = coverage_views
        #: Number of the present iteration; schedules follow it.
        self.register_buffer("iteration", torch.tensor(first_iteration))

    @property
    def scene_extent(self) -> float:
        """Radius of the training camera centres, world units."""
        return float(self.views.extent)

    def initialize_exposure(self, cameras: Cameras, is_trained: Tensor | None) -> None:
        """Make the table of the colour model per photograph, where the scene has one.

        Args:
            cameras: The training cameras.
            is_trained: (n_images,) bool in capture order. None for one row per camera.
        """
        if self.exposure is not None:
            rows = torch.ones(len(cameras), dtype=torch.bool) if is_trained is None else is_trained
            self.exposure.initialize(rows)

    @property
    def resolution_factor(self) -> int:
        """Whole factor by which pictures are reduced at this iteration."""
        factor = 1
        for start, value in self.resolution_schedule:
            if int(self.iteration) >= start:
                factor = value
        return factor

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
            data_samples: B samples with ``camera`` and what the losses ask for; colour models
                per photograph need the meta value ``camera_index``.
            mode: ``loss``, ``predict`` or ``tensor``.
        """
        if mode == "loss":
            return self.loss(inputs, data_samples)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        if mode == "tensor":
            return [self.render(sample.camera) for sample in data_samples]
        raise ValueError(f"mode must be 'loss', 'predict' or 'tensor', received '{mode}'")

    def fill_sample(
        self, sample: SceneDataSample, maps: dict[str, Tensor], photograph: Tensor | None
    ) -> None:
        """Put a rendered view and its photograph into a sample.

        Sets ``pred_image`` (3, H, W), ``pred_depth`` (H, W), ``pred_alpha`` (H, W),
        ``pred_normal`` (3, H, W) in camera axes, ``pred_covered`` (H, W) bool (where enough
        training views saw the point), and ``gt_image`` where there is a photograph.

        Args:
            sample: With ``camera``.
            maps: ``rgb``, ``alpha``, ``depth``, ``normals`` (1, H, W, .).
            photograph: (3, H, W) in [0, 1].
        """
        sample.pred_image = maps["rgb"][0].permute(2, 0, 1).clamp(0, 1).contiguous()
        sample.pred_alpha = maps["alpha"][0, ..., 0]
        sample.pred_depth = maps["depth"][0, ..., 0]
        sample.pred_normal = maps["normals"][0].permute(2, 0, 1).contiguous()
        sample.pred_covered = self.views.covered(
            sample.camera, sample.pred_depth, sample.pred_alpha, self.coverage_views
        )
        if photograph is not None:
            sample.gt_image = photograph


class SplatSceneModel(SceneModel):
    """A scene whose Gaussians are parameters, in ``splats``, which a hook densifies.

    Args:
        losses: Configs by name. A loss gets prediction, target and mask, unless its
            attribute ``applies_to`` asks for the Gaussians: ``opacities``, ``scales``, or
            ``scales and extent``. Defaults to 0.8 L1 + 0.2 SSIM.
        **options: See :class:`SceneModel`.
    """

    splats: nn.Module

    def __init__(self, losses: dict[str, dict] | None = None, **options: Any) -> None:
        super().__init__(**options)
        losses = losses or dict(
            loss_l1=dict(type="L1Loss", loss_weight=0.8),
            loss_ssim=dict(type="SSIMLoss", loss_weight=0.2),
        )
        self.losses = nn.ModuleDict({name: MODELS.build(cfg) for name, cfg in losses.items()})
        #: Set by the densification hook: keep gradients of the projected means.
        self.keeps_meta = False
        self.absgrad = False
        self._render_meta: list[dict[str, Any]] = []

    def take_render_meta(self) -> list[dict[str, Any]]:
        """Hand over the ``meta`` of the last training step and forget it."""
        meta, self._render_meta = self._render_meta, []
        return meta

    def keep_render_meta(self, meta: dict[str, Any], n_views: int, **more: Any) -> None:
        """Remember the ``meta`` of a training render, if the densification asks for it."""
        if not self.keeps_meta:
            return
        if meta["means2d"].requires_grad:
            meta["means2d"].retain_grad()
        self._render_meta.append({**meta, "n_views": n_views, **more})

    def picture_losses(
        self, prediction: Tensor, target: Tensor, mask: Tensor | None
    ) -> dict[str, Tensor]:
        """Losses of pictures (C, 3, H, W), outside of a mask (C, H, W) where there is one."""
        return {
            name: loss(prediction, target, mask)
            for name, loss in self.losses.items()
            if _applies_to(loss) == "picture"
        }

    def scene_losses(self) -> dict[str, Tensor]:
        """Losses of the Gaussians themselves."""
        values: dict[str, Tensor] = {}
        for name, loss in self.losses.items():
            kind = _applies_to(loss)
            if kind == "opacities":
                values[name] = loss(self.splats.opacities)
            elif kind == "scales":
                values[name] = loss(self.splats.scales)
            elif kind == "scales and extent":
                values[name] = loss(self.splats.scales, self.scene_extent)
        return values


def image_ids(
    samples: Sequence[SceneDataSample], device: torch.device | str | None = None
) -> Tensor:
    """``(B,)`` int64 numbers of the photographs that the samples show."""
    return torch.tensor([sample.camera_index for sample in samples], device=device)


def _applies_to(loss: nn.Module) -> str:
    """Argument that a loss is called with; losses of other packages take the picture."""
    return getattr(loss, "applies_to", "picture")
