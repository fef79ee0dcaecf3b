"""3D Gaussian splatting: the model is the scene."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcity.models.layers import SplatSceneModel, image_ids
from mmcity.registry import MODELS
from mmcity.structures import Cameras, Gaussians, SceneDataSample
from mmcity.utils.precision import full_precision

from .initialization import random_points, splats_from_points
from .splats import SplatParameters


@MODELS.register_module()
class GaussianSplatting(SplatSceneModel):
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
        **options: See :class:`SplatSceneModel`; without a ``resolution_schedule``, pictures keep
            their size.
    """

    def __init__(
        self,
        sh_degree: int = 3,
        sh_degree_interval: int = 1000,
        init: dict | None = None,
        renderer: dict | None = None,
        exposure: dict | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.splats = SplatParameters(sh_degree)
        self.renderer: nn.Module = MODELS.build(renderer or dict(type="SplatRenderer"))
        self.exposure = None if exposure is None else MODELS.build(exposure)
        self.init_options = dict(init or {})
        self.sh_degree_interval = sh_degree_interval

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
        extent = self.scene_extent
        options = dict(self.init_options)
        source = options.pop("source", "points")
        count, spread = options.pop("count", 100_000), options.pop("spread", 3.0)
        if source == "random":
            centre = cameras.centers.mean(0)
            points, colors = random_points(count, centre, spread * extent, generator)
        elif source != "points":
            raise ValueError(f"init.source: expected 'points' or 'random', got {source!r}")
        elif points is None or colors is None:
            raise ValueError("capture: expected points, got none: set init.source='random'")
        if "max_scale" in options:
            options["max_scale"] = options["max_scale"] * extent
        self.splats.assign(
            **splats_from_points(points, colors, sh_degree=self.splats.sh_degree, **options)
        )
        self.initialize_exposure(cameras, is_trained)

    @property
    def summary(self) -> str:
        """One line about the scene for the log."""
        return f"{len(self.splats)} Gaussians"

    def to_gaussians(self) -> Gaussians:
        """The scene after activation, without gradients, on the CPU."""
        return self.placed(self.splats.to_gaussians())

    @property
    def active_sh_degree(self) -> int:
        """Degree of the spherical harmonics in use at this iteration."""
        if not self.sh_degree_interval:
            return self.splats.sh_degree
        return min(int(self.iteration) // self.sh_degree_interval, self.splats.sh_degree)

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

    # ---- training

    def rows_of_renders(self, inputs: Tensor | list[Tensor]) -> list[list[int]]:
        """Rows of the batch that are rendered together: those of one size."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for row, image in enumerate(inputs):
            groups.setdefault(tuple(image.shape), []).append(row)
        return list(groups.values())

    @full_precision
    def view_losses(self, rows: list[int], inputs, data_samples) -> dict[str, Tensor]:
        """Losses of the views ``rows`` of a batch, their mean."""
        targets = torch.stack([inputs[row] for row in rows])  # (C, 3, H, W)
        samples = [data_samples[row] for row in rows]
        cameras = Cameras.cat([sample.camera for sample in samples])
        masks = [getattr(sample, "gt_mask", None) for sample in samples]
        mask = None if any(m is None for m in masks) else torch.stack(masks)
        targets, cameras, mask = self._reduce(targets, cameras, mask)
        render = self.render(cameras, with_geometry=False)
        self.keep_view(**render["meta"], n_views=len(data_samples))
        rgb = render["rgb"]
        if self.exposure is not None:
            rgb = self.exposure(rgb, image_ids(samples))
        return self.picture_losses(rgb.permute(0, 3, 1, 2), targets, mask)  # (C, 3, H, W)

    def _reduce(
        self, targets: Tensor, cameras: Cameras, mask: Tensor | None
    ) -> tuple[Tensor, Cameras, Tensor | None]:
        factor = self.resolution_factor
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

    # ---- testing

    @full_precision
    def render_sample(self, sample: SceneDataSample, photograph: Tensor | None) -> tuple:
        """Maps of a test view, with its exposure, and the number of Gaussians."""
        render = self.render(sample.camera)
        if self.exposure is not None:
            render["rgb"] = self.exposure(render["rgb"], image_ids([sample]))
        return render, dict(n_gaussians=len(self.splats))
