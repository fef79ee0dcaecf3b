"""Densification as sampling."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from mmcity.models.layers import Strategy
from mmcity.registry import STRATEGIES
from mmcity_ops import quat_scale_to_covar_preci

from ..splats import SplatParameters
from .surgery import add_copies, relocate, sample_rows, stray_rows

#: Noise fades with opacity along a sigmoid of this steepness about this transparency.
NOISE_STEEPNESS = 100.0
NOISE_CENTRE = 0.995
#: From this opacity on, the gate is below 1e-4 and the noise is left out.
NOISE_MAX_OPACITY = 0.1

#: Extent of the captures, in world units, at which the published rate of the noise is right.
NOISE_EXTENT = 7.0


@STRATEGIES.register_module()
@dataclass(eq=False)
class MCMCStrategy(Strategy):
    """Relocate dead Gaussians, add up to a cap, shake (Kheradmand et al. 2024).

    The number of Gaussians grows to ``max_gaussians`` and stays there, which bounds cost
    and memory. It wants the opacity and scale regularisers among the losses.

    The noise is the published one of a capture whose extent is :data:`NOISE_EXTENT`, in any
    unit of length: covariances grow with the square of the unit and the rate of the means with
    the unit, so that in a field of extent 80 it would throw Gaussians out of the scene. It ends
    with refinement, when the dead and those far out come back once more.

    Args:
        max_gaussians: Cap on the number of Gaussians. Defaults to 1_000_000.
        refine_start: First iteration that may relocate and add. Defaults to 500.
        refine_stop: Growth and noise end before this iteration, relocation with it. Defaults
            to 25000.
        refine_every: Iterations between two edits. Defaults to 100.
        growth: Factor of the number of Gaussians at each edit. Defaults to 1.05.
        min_opacity: A Gaussian at or below it is dead. Defaults to 0.005.
        noise_lr: Size of the noise in units of the means' learning rate. 0 switches it
            off. Defaults to 5e5.
        seed: Seed of the draws. Defaults to 0.
    """

    max_gaussians: int = 1_000_000
    refine_start: int = 500
    refine_stop: int = 25000
    refine_every: int = 100
    growth: float = 1.05
    min_opacity: float = 0.005
    noise_lr: float = 5e5
    seed: int = 0

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
        report: dict[str, int] = {}
        if iteration > self.refine_stop:
            return report
        generator = self._generator(iteration, splats.means.device)
        if iteration == self.refine_stop:
            report["relocated"] = self._relocate(splats, optimizer, generator, strays=True)
            return report
        if self.refine_start < iteration and iteration % self.refine_every == 0:
            report["relocated"] = self._relocate(splats, optimizer, generator)
            report["added"] = self._add(splats, optimizer, generator)
        if self.noise_lr:
            self._shake(splats, means_lr * (NOISE_EXTENT / scene_extent) ** 2, generator)
        return report

    def _relocate(
        self,
        splats: SplatParameters,
        optimizer: Optimizer,
        generator: torch.Generator,
        strays: bool = False,
    ) -> int:
        opacities = splats.opacities.detach()
        is_dead = opacities <= self.min_opacity
        if strays:
            is_dead |= stray_rows(splats)
        dead = is_dead.nonzero()[:, 0]
        if len(dead) in (0, len(splats)):
            return 0
        alive = torch.where(is_dead, torch.zeros_like(opacities), opacities)
        sources = sample_rows(alive, len(dead), generator)
        relocate(splats, optimizer, dead, sources, self.min_opacity)
        return len(dead)

    def _add(
        self, splats: SplatParameters, optimizer: Optimizer, generator: torch.Generator
    ) -> int:
        wanted = min(self.max_gaussians, int(self.growth * len(splats)))
        count = max(wanted - len(splats), 0)
        if count:
            sources = sample_rows(splats.opacities.detach(), count, generator)
            add_copies(splats, optimizer, sources, self.min_opacity)
        return count

    @torch.no_grad()
    def _shake(self, splats: SplatParameters, rate: float, generator: torch.Generator) -> None:
        opacities = splats.opacities
        rows = (opacities < NOISE_MAX_OPACITY).nonzero()[:, 0]
        if not len(rows):
            return
        gate = torch.sigmoid(NOISE_STEEPNESS * ((1 - opacities[rows]) - NOISE_CENTRE))
        noise = torch.randn(len(rows), 3, generator=generator, device=gate.device, dtype=gate.dtype)
        noise = noise * (gate * self.noise_lr * rate)[:, None]  # (M, 3)
        covars, _ = quat_scale_to_covar_preci(
            splats.quats[rows], splats.log_scales[rows].exp(), compute_preci=False
        )
        step = torch.einsum("mij,mj->mi", covars, noise)
        splats.means.data.index_add_(0, rows, step)
