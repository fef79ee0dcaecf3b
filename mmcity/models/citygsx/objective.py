"""Losses of CityGS-X with their weights and schedules."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmcity.models.losses import build_losses, gaussian_loss, subject_of
from mmcity.models.losses.planar import (
    image_gradient,
    inverse_depth_sums,
    multi_view_sums,
    normals_from_depth,
    rows_K,
)
from mmcity.registry import MODELS
from mmcity.utils.checks import check_choice
from mmcity_ops import fused_ssim

#: Rows beside a strip that its SSIM windows (5) and normals (1) reach into.
HALO = 5
#: Names of the losses that are always known.
TERMS = (
    *("loss_l1", "loss_ssim", "loss_scale", "loss_normal", "loss_depth"),
    *("loss_multi_view", "loss_reprojection", "loss_exposure"),
)


@dataclass(frozen=True)
class Strip:
    """Rows of a picture that a process judges, and those around them that it has maps of.

    Attributes:
        first, last: Rows ``first .. last - 1`` are judged.
        top, bottom: The maps hold rows ``top .. bottom - 1``.
    """

    first: int
    last: int
    top: int
    bottom: int

    @classmethod
    def of(cls, first: int, last: int, height: int) -> "Strip":
        """Rows of a picture with as much halo as there is."""
        return cls(first, last, max(first - HALO, 0), min(last + HALO, height))

    @property
    def own(self) -> slice:
        """The judged rows within the maps."""
        return slice(self.first - self.top, self.last - self.top)


@dataclass
class Term:
    """A loss ``weight * total / count``; totals and counts of strips add up."""

    weight: float
    total: Tensor
    count: int | Tensor

    def value(self, count: int | Tensor | None = None) -> Tensor:
        """The share of the loss, of ``count`` entries (Defaults to the own ones)."""
        count = self.count if count is None else count
        at_least_one = count.clamp_min(1) if isinstance(count, Tensor) else max(count, 1)
        return self.weight * self.total / at_least_one


def log_linear(first: float, last: float, share: float) -> float:
    """Geometric interpolation; ``share`` is clamped to [0, 1]."""
    share = min(max(share, 0.0), 1.0)
    return math.exp((1 - share) * math.log(first) + share * math.log(last))


@MODELS.register_module()
@dataclass(eq=False)
class CityGSXObjective:
    """Losses of one view: photograph first, then flat Gaussians, priors and other views.

    All iterations are counted from 1 in views. A start beyond the training's end, or a
    ``use_*`` switch, turns a term off.

    Args:
        lambda_dssim: Share of the SSIM term. Defaults to 0.2.
        scale_loss_from_iter: Start of the flatness term. Defaults to 0.
        scale_weights: Its weight before and after twice ``single_view_weight_from_iter``.
            Defaults to (10, 4).
        scale_unit: What it measures the scales in: ``world`` units, as the original, or the
            ``extent`` of the training cameras, which suits captures of any unit. Defaults to
            ``world``.
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
        multi_view_interval: The terms between views count every so many steps, so many times;
            cheaper, since they need a second render. Defaults to 1.
        wo_use_geo_occ_aware: No exclusion and no weights by reprojection error. Defaults to
            False.
        pixel_offset: Centre of the first pixel; 0 for the original's. Defaults to 0.5.
        extra_losses: Configs of further losses by name, see :func:`build_losses`; those of
            Gaussians get the ones in the picture and are to be means over them. Defaults to
            None.
    """

    lambda_dssim: float = 0.2
    scale_loss_from_iter: int = 0
    scale_weights: tuple[float, float] = (10.0, 4.0)
    scale_unit: str = "world"
    use_single_view_loss: bool = True
    single_view_weight: float = 0.015
    single_view_weight_from_iter: int = 10000
    legacy_normal_nograd: bool = False
    use_dpt_loss: bool = True
    dpt_loss_from_iter: int = 10000
    dpt_end_iter: int = 50000
    depth_l1_weight_init: float = 1.0
    depth_l1_weight_final: float = 0.01
    depth_schedule: str = "from_start"
    stop_dpt_at_end: bool = False
    use_multi_view_loss: bool = True
    multi_view_weight_from_iter: int = 10000
    multi_view_patch_size: int = 3
    multi_view_ncc_weight: float = 0.15
    multi_view_geo_weight: float = 0.03
    multi_view_samples: int = 102_400
    multi_view_interval: int = 1
    wo_use_geo_occ_aware: bool = False
    pixel_offset: float = 0.5
    extra_losses: dict[str, dict] | None = None

    def __post_init__(self) -> None:
        #: The built ``extra_losses``.
        self.extra = build_losses(self.extra_losses or {})
        for name in self.extra:
            if name in TERMS:
                raise ValueError(
                    f"extra_losses: expected names besides {', '.join(TERMS)}, got {name!r}: "
                    "rename it"
                )
        check_choice("depth_schedule", self.depth_schedule, ("from_start", "legacy"))
        check_choice("scale_unit", self.scale_unit, ("world", "extent"))

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
        is_time = iteration % self.multi_view_interval == 0
        return self.use_multi_view_loss and self._has_begun(iteration) and is_time

    def _has_begun(self, iteration: int) -> bool:
        return iteration > self.multi_view_weight_from_iter

    def needs_geometry(self, iteration: int) -> bool:
        """Whether normals and plane distances are rendered: if any of these terms counts."""
        return any(
            uses(iteration) for uses in (self.uses_normals, self.uses_prior, self.uses_neighbours)
        )

    @property
    def judges_whole_pictures(self) -> bool:
        """Whether a term needs all rows of a picture at once."""
        return any(subject_of(loss) == "picture" for loss in self.extra.values())

    def scale_weight(self, iteration: int) -> float:
        """Weight of the flatness term."""
        return self.scale_weights[iteration >= 2 * self.single_view_weight_from_iter]

    def depth_weight(self, iteration: int) -> float:
        """Weight of the depth prior."""
        first = self.dpt_loss_from_iter if self.depth_schedule == "from_start" else 0
        share = (iteration - first) / max(self.dpt_end_iter - first, 1)
        return log_linear(self.depth_l1_weight_init, self.depth_l1_weight_final, share)

    def patch_stage(self, iteration: int) -> tuple[int, float]:
        """Half edge of the patches and bound of the reprojection error, both px."""
        start, half = self.multi_view_weight_from_iter, self.multi_view_patch_size
        if iteration < 1.2 * start:
            return half + 4, 2.0
        if iteration < 1.5 * start:
            return half + 2, 1.0
        return half, 1.0

    # ---- terms

    def terms(
        self,
        iteration: int,
        image: Tensor,
        target: Tensor,
        scales: Tensor,
        geometry: dict[str, Tensor] | None = None,
        prior: Tensor | None = None,
        neighbour: dict[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        strip: Strip | None = None,
        total_of: Callable[[Tensor], Tensor] | None = None,
        extent: float = 1.0,
        opacities: Tensor | None = None,
    ) -> dict[str, Term]:
        """Terms of one view, or of a strip of its rows.

        Args:
            iteration: Counted from 1.
            image: ``(3, h, W)`` render.
            target: ``(3, H, W)`` photograph in [0, 1], whole.
            scales: ``(M, 3)`` of the Gaussians in the picture.
            geometry: ``depth`` (h, W), ``normals`` (3, h, W), ``distances`` (h, W), ``alpha``
                (h, W), ``usable`` (h, W) bool or None; of the whole picture ``K``, ``viewmat``,
                ``grey`` (H, W) photograph.
            prior: ``(H, W)`` inverse depth, 0 for none.
            neighbour: ``depth``, ``K``, ``viewmat``, ``grey`` of another view, whole.
            generator: Source of randomness of the patches.
            strip: Which rows the maps of height h hold. Defaults to None: all.
            total_of: Sums a number over the processes that share the view. Defaults to None: one.
            extent: Of the training cameras, world units. Defaults to 1.
            opacities: ``(M,)`` of the Gaussians in the picture, for ``extra_losses``.
        """
        strip = strip or Strip.of(0, target.shape[1], target.shape[1])
        terms = self._picture_terms(image, target, strip)
        terms.update(self._extra_terms(image, target, strip, scales, opacities, extent))
        if iteration > self.scale_loss_from_iter:
            smallest = scales.amin(1).sum() if len(scales) else scales.sum()
            unit = extent if self.scale_unit == "extent" else 1.0
            weight = self.scale_weight(iteration) / unit
            terms["loss_scale"] = Term(weight, smallest, len(scales))
        if geometry is None:
            return terms
        maps = {key: geometry.get(key) for key in ("depth", "distances", "alpha", "usable")}
        own = {key: None if value is None else value[strip.own] for key, value in maps.items()}
        own["normals"] = geometry["normals"][:, strip.own]
        if self.uses_normals(iteration):
            terms["loss_normal"] = self._normal_term(geometry, own, target, strip)
        if self.uses_prior(iteration) and prior is not None:
            rows = prior[strip.first : strip.last]
            sums = inverse_depth_sums(own["depth"], rows, own["usable"])
            terms["loss_depth"] = Term(self.depth_weight(iteration), *sums)
        if self.uses_neighbours(iteration) and neighbour is not None:
            terms.update(
                self._neighbour_terms(
                    iteration, geometry, own, neighbour, generator, strip, total_of
                )
            )
        return terms

    def _picture_terms(self, image: Tensor, target: Tensor, strip: Strip) -> dict[str, Term]:
        around = target[:, strip.top : strip.bottom]
        if image.numel():
            _, ssim = fused_ssim(image[None], around[None], return_map=True)
            ssim = ssim[0, :, strip.own]
        else:
            ssim = image
        difference = (image - around)[:, strip.own].abs()
        share = difference.numel()
        # SSIM counts as one minus its mean over the picture.
        return dict(
            loss_l1=Term(1 - self.lambda_dssim, difference.sum(), share),
            loss_ssim=Term(self.lambda_dssim, share - ssim.sum(), share),
        )

    def _extra_terms(
        self, image: Tensor, target: Tensor, strip: Strip, scales, opacities, extent: float
    ) -> dict[str, Term]:
        """The extra losses; of processes that share a view each counts by its own rows."""
        terms = {}
        for name, loss in self.extra.items():
            if subject_of(loss) == "picture":
                share, nothing = strip.last - strip.first, image.sum()
            else:
                share, nothing = len(scales), scales.sum()
            if not share:
                value = nothing
            elif subject_of(loss) == "picture":
                value = loss(image[None], target[None, :, strip.top : strip.bottom], None)
            else:
                value = gaussian_loss(loss, opacities, scales, extent)
            terms[name] = Term(1.0, share * value, share)
        return terms

    def _normal_term(self, geometry, own, target: Tensor, strip: Strip) -> Term:
        """Normals from depth against rendered ones, away from edges (PGSR, Chen et al. 2024)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.legacy_normal_nograd):
            K = rows_K(geometry["K"], strip.top)
            normals = normals_from_depth(geometry["depth"], K, self.pixel_offset)[:, strip.own]
            normals = normals * own["alpha"].detach()
            weight = (1 - image_gradient(target)).clamp(0, 1).square()[strip.first : strip.last]
            difference = (normals - own["normals"]).abs().sum(0)
            return Term(self.single_view_weight, (weight * difference).sum(), weight.numel())

    def _neighbour_terms(
        self, iteration, geometry, own, neighbour, generator, strip: Strip, total_of
    ) -> dict[str, Term]:
        half, max_error = self.patch_stage(iteration)
        geometric, photometric = multi_view_sums(
            **{name: own[name] for name in ("depth", "normals", "distances")},
            **{name: geometry[name] for name in ("K", "viewmat", "grey")},
            **{f"other_{name}": neighbour[name] for name in ("depth", "K", "viewmat", "grey")},
            half=half,
            max_error=max_error,
            max_samples=self.multi_view_samples,
            use_occlusion=not self.wo_use_geo_occ_aware,
            usable=own["usable"],
            generator=generator,
            pixel_offset=self.pixel_offset,
            first_row=strip.first,
            total_of=total_of,
        )
        times = self.multi_view_interval
        return dict(
            loss_multi_view=Term(times * self.multi_view_ncc_weight, *photometric),
            loss_reprojection=Term(times * self.multi_view_geo_weight, *geometric),
        )
