"""Base class of models that are a scene."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.optim import Optimizer

from mmcity.models.losses import build_losses, check_finite, gaussian_loss, subject_of
from mmcity.registry import MODELS
from mmcity.structures import Cameras, Gaussians, SceneDataSample

from .placement import Placement
from .resizable import HostNumbers
from .strategy import Strategy
from .training_views import TrainingViews


class SceneModel(HostNumbers, BaseModel):
    """A scene that is optimised so that its renders equal photographs, and that may grow.

    A subclass has ``render(cameras)``, ``view_losses``, ``render_sample``, ``table`` and
    ``grow``. For growth a hook sets ``keeps_statistics``, so that :meth:`loss` keeps the views,
    and calls :meth:`grow` after the step of the optimiser; wrappers of several processes have
    that method too. A subclass with ``statistics`` also has ``record_statistics``.

    Args:
        resolution_schedule: Pairs (iteration, factor) in rising order: from that iteration
            on, training pictures are reduced by that whole factor. Defaults to full size.
        coverage_views: Training frames a pixel's point must lie in to count as covered in
            the coverage-masked metric. Defaults to 2.
        data_preprocessor: Defaults to :class:`PosedImagePreprocessor`.
        init_cfg: See mmengine. Defaults to None.
    """

    on_host = ("iteration",)
    #: Colour model per photograph, built by the subclasses that have one.
    exposure: nn.Module | None
    #: Iterations are those of views, counted from 1, rather than of steps, counted from 0.
    counts_views = False
    #: What the scene consists of, one row of :attr:`table` each.
    element = "Gaussian"

    def __init__(
        self,
        resolution_schedule: Sequence[tuple[int, int]] | None = None,
        coverage_views: int = 2,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        preprocessor = MODELS.build(data_preprocessor or dict(type="PosedImagePreprocessor"))
        super().__init__(preprocessor, init_cfg)
        self.views = TrainingViews()
        self.placement = Placement()
        self.exposure = None
        self.resolution_schedule = list(resolution_schedule or [])
        self.coverage_views = coverage_views
        #: Number of the present iteration; schedules follow it.
        self.register_buffer("iteration", torch.tensor(int(self.counts_views)))
        #: Set by the growth hook: keep the training views, with (absolute) gradients.
        self.keeps_statistics = self.absgrad = False
        self._kept: list[dict[str, Any]] = []

    @property
    def is_antialiased(self) -> bool:
        """Whether its Gaussians are for a renderer that corrects opacities for its filter."""
        return False

    @property
    def scene_extent(self) -> float:
        """Radius of the training camera centres, world units."""
        return float(self.views.extent)

    def placed(self, gaussians: Gaussians) -> Gaussians:
        """The scene as plain Gaussians, with its frame where that is known."""
        gaussians.frame = self.placement.known_frame
        return gaussians

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
        """One update, with a backward pass for each render, whose graph is free before the next.

        Returns:
            Losses for the log, on the CPU: the host waits once for all of them.

        Raises:
            FloatingPointError: If a loss is not finite, with the photograph and the term.
        """
        with optim_wrapper.optim_context(self):
            data = self.data_preprocessor(data, True)
        inputs, samples = data["inputs"], data["data_samples"]
        self.take_views()  # of a step that did not come to growth
        single: dict[str, Tensor] = {}
        total: dict[str, Tensor] = {}
        groups = self.rows_of_renders(inputs)
        scaler = loss_scaler(optim_wrapper)
        for rows in groups:
            is_last = rows is groups[-1]
            with optim_wrapper.optim_context(self):
                part = self._share_of(rows, inputs, samples, is_last)
            loss, _ = self.parse_losses(part)
            if is_last:
                factor = scaler.scale(torch.ones_like(loss))  # the step changes it
                optim_wrapper.update_params(loss)
            else:
                # Wrappers count their backward passes as steps, so only the last goes through.
                scaler.scale(optim_wrapper.scale_loss(loss)).backward()
            part = {name: value.detach() for name, value in part.items()}
            single.update(_named(part, rows, samples))
            _add_to(total, part)
        if scaler.is_enabled():
            self.unscale_views(factor)
        _, log = self.parse_losses(total)
        numbers = check_finite({**single, **log})
        return {name: torch.tensor(numbers[name], dtype=log[name].dtype) for name in log}

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
        raise ValueError(f"mode: expected 'loss', 'predict' or 'tensor', got {mode!r}")

    # ---- the loop over views

    def loss(
        self, inputs: Tensor | list[Tensor], data_samples: Sequence[SceneDataSample]
    ) -> dict[str, Tensor]:
        """Losses, averaged over the views of the batch.

        Raises:
            FloatingPointError: If a loss is not finite, with the photograph and the term.
        """
        self.take_views()  # of a step that did not come to growth
        single: dict[str, Tensor] = {}
        total: dict[str, Tensor] = {}
        groups = self.rows_of_renders(inputs)
        for rows in groups:
            part = self._share_of(rows, inputs, data_samples, rows is groups[-1])
            single.update(_named(part, rows, data_samples))
            _add_to(total, part)
        check_finite(single)
        return total

    def _share_of(
        self,
        rows: list[int],
        inputs: Tensor | list[Tensor],
        data_samples: Sequence[SceneDataSample],
        is_last: bool,
    ) -> dict[str, Tensor]:
        """Share of the views ``rows`` in the losses of a batch; the last bring the scene's own."""
        share = len(data_samples) / len(rows)
        losses = self.view_losses(rows, inputs, data_samples)
        losses = {name: value / share for name, value in losses.items()}
        if is_last:
            losses.update(self.scene_losses())
            if self.exposure is not None:
                losses["loss_exposure"] = self.exposure.penalty(image_ids(data_samples))
        return losses

    def rows_of_renders(self, inputs: Tensor | list[Tensor]) -> list[list[int]]:
        """Rows of the batch that are rendered together; each by itself."""
        return [[row] for row in range(len(inputs))]

    @abstractmethod
    def view_losses(
        self,
        rows: list[int],
        inputs: Tensor | list[Tensor],
        data_samples: Sequence[SceneDataSample],
    ) -> dict[str, Tensor]:
        """Losses of the views ``rows`` of a batch, their mean; calls :meth:`keep_view`."""

    def scene_losses(self) -> dict[str, Tensor]:
        """Losses of the scene itself."""
        return {}

    @torch.no_grad()
    def predict(
        self, inputs: Tensor | list[Tensor] | None, data_samples: Sequence[SceneDataSample]
    ) -> list[SceneDataSample]:
        """Add renders to the samples, see :meth:`fill_sample`."""
        for row, sample in enumerate(data_samples):
            photograph = None if inputs is None else inputs[row]
            maps, numbers = self.render_sample(sample, photograph)
            self.fill_sample(sample, maps, photograph)
            sample.set_metainfo(numbers)
        return list(data_samples)

    @abstractmethod
    def render_sample(
        self, sample: SceneDataSample, photograph: Tensor | None
    ) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Maps of a test view, and numbers of what it was rendered from."""

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

    # ---- growth

    @property
    @abstractmethod
    def table(self) -> nn.Module:
        """Table of the scene's Gaussians or anchors, one row each."""

    @property
    def statistics(self) -> list[Tensor]:
        """Tables to which ``record_statistics`` adds the kept views; [] if strategies do that."""
        return []

    def keep_view(self, means2d: Tensor, **view: Any) -> None:
        """Remember a training render, with the gradient of its projected means, if asked to."""
        if not self.keeps_statistics:
            return
        if means2d.requires_grad:
            means2d.retain_grad()
        self._kept.append(dict(means2d=means2d, **view))

    @torch.no_grad()
    def unscale_views(self, factor: Tensor) -> None:
        """Take the factor of the losses, of mixed precision, out of the kept gradients.

        Where they overflowed, so that the step was left out, nothing is left of them.
        """
        for view in self._kept:
            means2d = view["means2d"]
            for gradient in (means2d.grad, getattr(means2d, "absgrad", None)):
                if gradient is not None:
                    gradient.div_(factor).nan_to_num_(0.0, 0.0, 0.0)

    def take_views(self) -> list[dict[str, Any]]:
        """Hand over the kept renders of the last training step and forget them."""
        views, self._kept = self._kept, []
        return views

    @abstractmethod
    def grow(
        self,
        strategy: Strategy,
        optimizer: Optimizer,
        iteration: int,
        batch: int = 1,
        shards: Any | None = None,
    ) -> dict[str, int]:
        """Let a strategy edit the scene.

        Args:
            strategy: Decides.
            optimizer: Moments are kept in step.
            iteration: Number of this iteration, or of its first view, counted from 1.
            batch: Views per step of all processes. Defaults to 1.
            shards: The processes that share the scene. Defaults to None: all of it is here.

        Returns:
            Counts of what was done, empty if nothing was.
        """


class SplatSceneModel(SceneModel):
    """A scene whose Gaussians are parameters, in ``splats``, which a strategy densifies.

    Args:
        losses: Configs by name, see :func:`build_losses`. Defaults to 0.8 L1 + 0.2 SSIM.
        **options: See :class:`SceneModel`.
    """

    splats: nn.Module

    def __init__(self, losses: dict[str, dict] | None = None, **options: Any) -> None:
        super().__init__(**options)
        losses = losses or dict(
            loss_l1=dict(type="L1Loss", loss_weight=0.8),
            loss_ssim=dict(type="SSIMLoss", loss_weight=0.2),
        )
        self.losses = build_losses(losses)

    @property
    def is_antialiased(self) -> bool:
        """Whether its Gaussians are for a renderer that corrects opacities for its filter."""
        return bool(getattr(getattr(self, "renderer", None), "is_antialiased", False))

    @property
    def table(self) -> nn.Module:
        """The Gaussians."""
        return self.splats

    def grow(self, strategy, optimizer, iteration, batch=1, shards=None) -> dict[str, int]:
        """See :meth:`SceneModel.grow`; the strategy gets the views, the extent and a rate."""
        splats, groups = self.splats, optimizer.param_groups
        rates = [g["lr"] for g in groups if any(p is splats.means for p in g["params"])]
        if not rates:
            raise ValueError("optim_wrapper: expected a group of splats.means, got none: name one")
        options = dict(scene_extent=self.scene_extent, means_lr=rates[0])
        return strategy.step(splats, optimizer, iteration, self.take_views(), **options)

    def picture_losses(
        self, prediction: Tensor, target: Tensor, mask: Tensor | None
    ) -> dict[str, Tensor]:
        """Losses of pictures (C, 3, H, W), outside of a mask (C, H, W) where there is one."""
        return {
            name: loss(prediction, target, mask)
            for name, loss in self.losses.items()
            if subject_of(loss) == "picture"
        }

    def scene_losses(self) -> dict[str, Tensor]:
        """Losses of the Gaussians themselves."""
        splats, extent = self.splats, self.scene_extent
        values = {
            name: gaussian_loss(loss, splats.opacities, splats.scales, extent)
            for name, loss in self.losses.items()
        }
        return {name: value for name, value in values.items() if value is not None}


def loss_scaler(optim_wrapper: Any) -> torch.amp.GradScaler:
    """Scaler of the losses, of which one without mixed precision does nothing."""
    return getattr(optim_wrapper, "loss_scaler", None) or torch.amp.GradScaler(enabled=False)


def image_ids(samples: Sequence[SceneDataSample]) -> Tensor:
    """``(B,)`` int64 numbers of the photographs that the samples show, on the CPU."""
    return torch.tensor([sample.camera_index for sample in samples])


def _named(
    losses: dict[str, Tensor], rows: list[int], samples: Sequence[SceneDataSample]
) -> dict[str, Tensor]:
    """Losses by the names of the photographs and their own."""
    shown = ", ".join(getattr(samples[row], "img_name", f"view {row}") for row in rows)
    return {f"{shown}: {name}": value for name, value in losses.items()}


def _add_to(total: dict[str, Tensor], losses: dict[str, Tensor]) -> None:
    for name, value in losses.items():
        total[name] = total[name] + value if name in total else value
