"""Adaptive density control of 3D Gaussian splatting."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mmcity.models.layers import Strategy
from mmcity.registry import STRATEGIES
from mmcity_ops import accumulate_densify_stats

from ..splats import SplatParameters
from .surgery import duplicate, keep, reset_opacities, split, stray_rows


@STRATEGIES.register_module()
@dataclass(eq=False)
class DefaultStrategy(Strategy):
    """Clone, split, prune and reset (Kerbl et al. 2023).

    Gaussians whose projected mean feels a large gradient on average are cloned (small
    ones) or split in two (large ones); those that became transparent or huge are removed;
    now and then all opacities are lowered, so that only what the images need comes back. When
    refinement ends, those that are transparent or far out and nearly so are removed.

    Args:
        refine_start: First iteration that may edit. Defaults to 500.
        refine_stop: The last edit, which only removes. Defaults to 15000.
        refine_every: Iterations between two edits. Defaults to 100.
        grow_grad2d: Mean gradient of the projected mean, in units of half the image, from
            which a Gaussian grows. With ``absgrad`` about four times the usual value fits.
            Defaults to 2e-4.
        grow_scale3d: Scale over scene extent up to which a Gaussian is cloned rather than
            split. Defaults to 0.01.
        prune_opacity: Opacity below which a Gaussian is removed. Defaults to 0.005.
        prune_scale3d: Scale over scene extent from which it is removed, once opacities
            have been reset. Defaults to 0.1.
        prune_radius2d: Radius in px on the screen from which it is removed, once opacities
            have been reset. Defaults to None: screen radii do not matter.
        prune_any: Transparent, huge, or large on the screen: each is reason enough. False
            removes only what is all of these. Defaults to True.
        reset_every: Iterations between two resets of the opacities; 0 for never. Defaults
            to 3000.
        extra_resets: Further iterations at which opacities are reset. Defaults to none.
        absgrad: Average absolute gradients per pixel instead of their sum (AbsGS, Ye et
            al. 2024). Defaults to False.
        exposure_max: Of several renders that make one blurred photograph, take each Gaussian's
            largest gradient instead of their mean. Defaults to False.
        max_gaussians: Cap on the number of Gaussians. At the cap those with the largest
            gradients grow first. Defaults to None.
        seed: Seed of the draws. Defaults to 0.
    """

    uses_gradients = True

    refine_start: int = 500
    refine_stop: int = 15000
    refine_every: int = 100
    grow_grad2d: float = 2e-4
    grow_scale3d: float = 0.01
    prune_opacity: float = 0.005
    prune_scale3d: float = 0.1
    prune_radius2d: float | None = None
    prune_any: bool = True
    reset_every: int = 3000
    extra_resets: Sequence[int] = ()
    absgrad: bool = False
    exposure_max: bool = False
    max_gaussians: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        self.grad2d = torch.zeros(0)  # (N,) sum of gradient norms since the last edit
        self.count = torch.zeros(0)  # (N,) times seen since the last edit
        self.max_radius = torch.zeros(0)  # (N,) px, largest since the last edit

    def state_dict(self) -> dict[str, Tensor]:
        """Statistics gathered since the last edit."""
        state = {"grad2d": self.grad2d, "count": self.count}
        if self.prune_radius2d is not None:
            state["max_radius"] = self.max_radius
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore :meth:`state_dict`."""
        expected = set(self.state_dict())
        if set(state) != expected:
            raise ValueError(
                f"DefaultStrategy: expected {sorted(expected)}, got {sorted(state)}: the "
                "checkpoint was written with another strategy"
            )
        for name, value in state.items():
            setattr(self, name, value)

    def step(
        self,
        splats: SplatParameters,
        optimizer: Optimizer,
        iteration: int,
        render_meta: list[dict[str, Any]],
        *,
        scene_extent: float,
        means_lr: float,
    ) -> dict[str, int]:
        """See :meth:`Strategy.step`."""
        if iteration > self.refine_stop:
            return {}
        if iteration == self.refine_stop:
            gone = (splats.opacities.detach() < self.prune_opacity) | stray_rows(splats)
            return {"pruned": self._remove(splats, optimizer, gone)}
        self._gather(splats, render_meta)
        report: dict[str, int] = {}
        if iteration > self.refine_start and iteration % self.refine_every == 0:
            report |= self._grow(splats, optimizer, iteration, scene_extent)
            report |= self._prune(splats, optimizer, iteration, scene_extent)
            self.grad2d = splats.means.new_zeros(len(splats))
            self.count = torch.zeros_like(self.grad2d)
            self.max_radius = torch.zeros_like(self.grad2d)
        is_due = self.reset_every and iteration > 0 and iteration % self.reset_every == 0
        if is_due or iteration in self.extra_resets:
            reset_opacities(splats, optimizer, 2 * self.prune_opacity)
            report["reset"] = len(splats)
        return report

    @torch.no_grad()
    def _gather(self, splats: SplatParameters, render_meta: list[dict[str, Any]]) -> None:
        for name in ("grad2d", "count", "max_radius"):  # a checkpoint brings them to the CPU
            setattr(self, name, getattr(self, name).to(splats.means.device))
        if len(self.grad2d) != len(splats):
            self.grad2d = splats.means.new_zeros(len(splats))
            self.count = torch.zeros_like(self.grad2d)
        if len(self.max_radius) != len(splats):  # also where a checkpoint holds none
            self.max_radius = torch.zeros_like(self.grad2d)
        name = "absgrad_norm" if self.absgrad else "grad2d_norm"
        exposures: dict[Any, tuple[Tensor, Tensor]] = {}
        for row, meta in enumerate(render_meta):
            if meta["means2d"].grad is None:  # nothing was visible
                continue
            zeros = torch.zeros_like(self.count)
            stats = {key: zeros.clone() for key in (name, "count", "max_radius")}
            stats = accumulate_densify_stats(stats, meta)
            # The loss is a mean over the views: undo that, so that thresholds do not
            # depend on the batch size.
            found = stats[name] * meta["n_views"], stats["count"]
            self.max_radius = torch.maximum(self.max_radius, stats["max_radius"])
            key = meta.get("exposure", row) if self.exposure_max else row
            if key in exposures:
                found = tuple(torch.maximum(a, b) for a, b in zip(exposures[key], found))
            exposures[key] = found
        for gradient, count in exposures.values():
            self.grad2d += gradient
            self.count += count

    def _grow(
        self, splats: SplatParameters, optimizer: Optimizer, iteration: int, scene_extent: float
    ) -> dict[str, int]:
        mean_grad = self.grad2d / self.count.clamp_min(1)
        grows = mean_grad > self.grow_grad2d
        if self.max_gaussians is not None:
            room = max(self.max_gaussians - len(splats), 0)
            if int(grows.sum()) > room:
                best = mean_grad.argsort(descending=True, stable=True)[:room]
                grows = torch.zeros_like(grows)
                grows[best] = True
        is_small = splats.scales.detach().amax(dim=1) <= self.grow_scale3d * scene_extent
        cloned = (grows & is_small).nonzero()[:, 0]
        divided = (grows & ~is_small).nonzero()[:, 0]
        generator = self._generator(iteration, splats.means.device)
        if len(cloned):
            duplicate(splats, optimizer, cloned)
        if len(divided):
            split(splats, optimizer, divided, generator)
        return {"cloned": len(cloned), "split": len(divided)}

    def _prune(
        self, splats: SplatParameters, optimizer: Optimizer, iteration: int, scene_extent: float
    ) -> dict[str, int]:
        gone = splats.opacities.detach() < self.prune_opacity
        if self.reset_every and iteration > self.reset_every:
            reasons = [splats.scales.detach().amax(dim=1) > self.prune_scale3d * scene_extent]
            if self.prune_radius2d is not None and len(self.max_radius) == len(gone):
                reasons.append(self.max_radius > self.prune_radius2d)
            for reason in reasons:
                gone = gone | reason if self.prune_any else gone & reason
        return {"pruned": self._remove(splats, optimizer, gone)}

    @staticmethod
    def _remove(splats: SplatParameters, optimizer: Optimizer, gone: Tensor) -> int:
        count = int(gone.sum())
        if count:
            keep(splats, optimizer, ~gone)
        return count
