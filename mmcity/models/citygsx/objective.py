"""When which loss counts, and how much."""

import math

import torch
from torch import Tensor, nn

from mmcity.models.losses.planar import (
    inverse_depth_loss,
    multi_view_loss,
    normal_consistency,
    normals_from_depth,
    smallest_scale_loss,
)
from mmcity.registry import MODELS
from mmcity_ops import fused_ssim

__all__ = ["CityGSXObjective", "log_linear"]


def log_linear(first: float, last: float, share: float) -> float:
    """Geometric interpolation; ``share`` is clamped to [0, 1]."""
    share = min(max(share, 0.0), 1.0)
    return math.exp((1 - share) * math.log(first) + share * math.log(last))


@MODELS.register_module()
class CityGSXObjective(nn.Module):
    """Losses of one view: photograph first, then flat Gaussians, priors and other views.

    All iterations are counted from 1 in views. A start beyond the training's end, or a
    ``use_*`` switch, turns a term off.

    Args:
        lambda_dssim: Share of the SSIM term. Defaults to 0.2.
        scale_loss_from_iter: Start of the flatness term. Defaults to 0.
        scale_weights: Its weight before and after twice ``single_view_weight_from_iter``.
            Defaults to (10, 4).
        use_single_view_loss: Defaults to True.
        single_view_weight: Weight of the normals' consistency. Defaults to 0.015.
        single_view_weight_from_iter: Defaults to 10000.
        legacy_normal_nograd: Compute it without gradient, as the original. Defaults to False.
        use_dpt_loss: Defaults to True.
        dpt_loss_from_iter: Start of the depth prior. Defaults to 10000.
        dpt_end_iter: End of the decay of its weight. Defaults to 50000.
        depth_l1_weight_init: Weight at first. Defaults to 1.0.
        depth_l1_weight_final: Weight at last. Defaults to 0.01.
        depth_schedule: ``from_start``: the decay begins with the term; ``legacy``: at
            iteration 0. Defaults to ``from_start``.
        stop_dpt_at_end: The term ends with its decay. Defaults to False.
        use_multi_view_loss: Defaults to True.
        multi_view_weight_from_iter: Defaults to 10000.
        multi_view_patch_size: Half edge of a patch in the last stage, px. Defaults to 3.
        multi_view_ncc_weight: Defaults to 0.15.
        multi_view_geo_weight: Weight of the reprojection error; the original has 0. Defaults
            to 0.03.
        multi_view_samples: Patches per view. Defaults to 102400.
        wo_use_geo_occ_aware: No exclusion and no weights by reprojection error. Defaults to
            False.
        pixel_offset: Centre of the first pixel; 0 for the original's. Defaults to 0.5.
    """

    def __init__(
        self,
        lambda_dssim: float = 0.2,
        scale_loss_from_iter: int = 0,
        scale_weights: tuple[float, float] = (10.0, 4.0),
        use_single_view_loss: bool = True,
        single_view_weight: float = 0.015,
        single_view_weight_from_iter: int = 10000,
        legacy_normal_nograd: bool = False,
        use_dpt_loss: bool = True,
        dpt_loss_from_iter: int = 10000,
        dpt_end_iter: int = 50000,
        depth_l1_weight_init: float = 1.0,
        depth_l1_weight_final: float = 0.01,
        depth_schedule: str = "from_start",
        stop_dpt_at_end: bool = False,
        use_multi_view_loss: bool = True,
        multi_view_weight_from_iter: int = 10000,
        multi_view_patch_size: int = 3,
        multi_view_ncc_weight: float = 0.15,
        multi_view_geo_weight: float = 0.03,
        multi_view_samples: int = 102_400,
        wo_use_geo_occ_aware: bool = False,
        pixel_offset: float = 0.5,
    ) -> None:
        super().__init__()
        if depth_schedule not in ("from_start", "legacy"):
            raise ValueError(
                f"depth_schedule: expected 'from_start' or 'legacy', got {depth_schedule!r}"
            )
        self.lambda_dssim = lambda_dssim
        self.scale_loss_from_iter, self.scale_weights = scale_loss_from_iter, scale_weights
        self.use_single_view_loss = use_single_view_loss
        self.single_view_weight = single_view_weight
        self.single_view_weight_from_iter = single_view_weight_from_iter
        self.legacy_normal_nograd = legacy_normal_nograd
        self.use_dpt_loss, self.dpt_loss_from_iter = use_dpt_loss, dpt_loss_from_iter
        self.dpt_end_iter = dpt_end_iter
        self.depth_weights = (depth_l1_weight_init, depth_l1_weight_final)
        self.depth_schedule, self.stop_dpt_at_end = depth_schedule, stop_dpt_at_end
        self.use_multi_view_loss = use_multi_view_loss
        self.multi_view_weight_from_iter = multi_view_weight_from_iter
        self.multi_view_patch_size = multi_view_patch_size
        self.multi_view_ncc_weight = multi_view_ncc_weight
        self.multi_view_geo_weight = multi_view_geo_weight
        self.multi_view_samples = multi_view_samples
        self.wo_use_geo_occ_aware = wo_use_geo_occ_aware
        self.pixel_offset = pixel_offset

    # ---- schedules

    def uses_normals(self, iteration: int) -> bool:
        """Whether the consistency of normals counts."""
        return self.use_single_view_loss and iteration > self.single_view_weight_from_iter

    def uses_prior(self, iteration: int) -> bool:
        """Whether the depth prior counts."""
        is_over = self.stop_dpt_at_end and iteration > self.dpt_end_iter
        return self.use_dpt_loss and iteration > self.dpt_loss_from_iter and not is_over

    def uses_neighbours(self, iteration: int) -> bool:
        """Whether agreement with other views counts."""
        return self.use_multi_view_loss and iteration > self.multi_view_weight_from_iter

    def needs_geometry(self, iteration: int) -> bool:
        """Whether normals and plane distances are rendered: if any of these terms counts."""
        return any(
            uses(iteration) for uses in (self.uses_normals, self.uses_prior, self.uses_neighbours)
        )

    def scale_weight(self, iteration: int) -> float:
        """Weight of the flatness term."""
        return self.scale_weights[iteration >= 2 * self.single_view_weight_from_iter]

    def depth_weight(self, iteration: int) -> float:
        """Weight of the depth prior."""
        first = self.dpt_loss_from_iter if self.depth_schedule == "from_start" else 0
        share = (iteration - first) / max(self.dpt_end_iter - first, 1)
        return log_linear(*self.depth_weights, share)

    def patch_stage(self, iteration: int) -> tuple[int, float]:
        """Half edge of the patches and bound of the reprojection error, both px."""
        start, half = self.multi_view_weight_from_iter, self.multi_view_patch_size
        if iteration < 1.2 * start:
            return half + 4, 2.0
        if iteration < 1.5 * start:
            return half + 2, 1.0
        return half, 1.0

    # ---- terms

    def picture_terms(self, image: Tensor, target: Tensor) -> dict[str, Tensor]:
        """``loss_l1`` and ``loss_ssim`` of ``(3, H, W)`` images."""
        ssim = fused_ssim(image[None], target[None])
        return dict(
            loss_l1=(1 - self.lambda_dssim) * (image - target).abs().mean(),
            loss_ssim=self.lambda_dssim * (1 - ssim),
        )

    def forward(
        self,
        iteration: int,
        image: Tensor,
        target: Tensor,
        scales: Tensor,
        geometry: dict[str, Tensor] | None = None,
        prior: Tensor | None = None,
        neighbour: dict[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Terms of one view; those that are not finite are left out (as zero).

        Args:
            iteration: Counted from 1.
            image: ``(3, H, W)`` render.
            target: ``(3, H, W)`` photograph in [0, 1].
            scales: ``(M, 3)`` of the Gaussians in the picture.
            geometry: ``depth`` (H, W), ``normals`` (3, H, W), ``distances`` (H, W), ``alpha``
                (H, W), ``K``, ``viewmat``, ``grey`` (H, W) photograph, ``usable`` (H, W) bool
                or None.
            prior: ``(H, W)`` inverse depth, 0 for none.
            neighbour: ``depth``, ``K``, ``viewmat``, ``grey`` of another view.
            generator: Source of randomness of the patches.
        """
        terms = self.picture_terms(image, target)
        if iteration > self.scale_loss_from_iter:
            terms["loss_scale"] = self.scale_weight(iteration) * smallest_scale_loss(scales)
        if geometry is not None:
            if self.uses_normals(iteration):
                terms["loss_normal"] = self._normal_term(geometry, target)
            if self.uses_prior(iteration) and prior is not None:
                value = inverse_depth_loss(geometry["depth"], prior, geometry.get("usable"))
                terms["loss_depth"] = self.depth_weight(iteration) * value
            if self.uses_neighbours(iteration) and neighbour is not None:
                terms.update(self._neighbour_terms(iteration, geometry, neighbour, generator))
        return {
            name: value if bool(torch.isfinite(value)) else torch.zeros_like(value)
            for name, value in terms.items()
        }

    def _normal_term(self, geometry: dict[str, Tensor], target: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.legacy_normal_nograd):
            normals = normals_from_depth(geometry["depth"], geometry["K"], self.pixel_offset)
            normals = normals * geometry["alpha"].detach()
            value = normal_consistency(normals, geometry["normals"], target)
            return self.single_view_weight * value

    def _neighbour_terms(self, iteration, geometry, neighbour, generator) -> dict[str, Tensor]:
        half, max_error = self.patch_stage(iteration)
        geometric, photometric = multi_view_loss(
            geometry["depth"],
            geometry["normals"],
            geometry["distances"],
            geometry["K"],
            geometry["viewmat"],
            geometry["grey"],
            neighbour["depth"],
            neighbour["K"],
            neighbour["viewmat"],
            neighbour["grey"],
            half=half,
            max_error=max_error,
            max_samples=self.multi_view_samples,
            use_occlusion=not self.wo_use_geo_occ_aware,
            usable=geometry.get("usable"),
            generator=generator,
            pixel_offset=self.pixel_offset,
        )
        return dict(
            loss_multi_view=self.multi_view_ncc_weight * photometric,
            loss_reprojection=self.multi_view_geo_weight * geometric,
        )
