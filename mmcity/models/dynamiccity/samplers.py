"""Samplers: from noise to a clean rollout, on any device, dtype and batch size."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from mmcity.registry import TASK_UTILS
from mmcity.utils.checks import check_choice

from .diffusion import GaussianDiffusion

Denoiser = Callable[[Tensor, Tensor], Tensor]
#: Called after each step with (sample, index in the chain, diffusion); may replace the sample.
StepHook = Callable[[Tensor, int, GaussianDiffusion], Tensor]


class _Sampler:
    """Runs a chain; subclasses define one step."""

    def __init__(
        self, spacing: str | int | Sequence[int] | None = None, num_steps: int = 1000
    ) -> None:
        self.diffusion = GaussianDiffusion(num_steps=num_steps, spacing=spacing)

    def reset(self) -> None:
        """Forget the previous chain."""

    def step(self, output: Tensor, x: Tensor, index: int, noise: Tensor) -> Tensor:
        raise NotImplementedError

    @torch.no_grad()
    def sample(
        self,
        denoiser: Denoiser,
        noise: Tensor,
        generator: torch.Generator | None = None,
        after_step: StepHook | None = None,
    ) -> Tensor:
        """Run the whole chain.

        Args:
            denoiser: ``(x (B, C, ...), original steps (B,)) -> (B, 2C, ...)``.
            noise: Start ``(B, C, ...)``, standard normal.
            generator: Source of the noise of each step. Defaults to torch's own.
            after_step: Called after each step; its result goes on (inpainting, progress).

        Returns:
            Clean samples like ``noise``.
        """
        self.reset()
        x = noise
        for index in range(len(self.diffusion) - 1, -1, -1):
            t = torch.full((len(x),), index, device=x.device, dtype=torch.long)
            output = denoiser(x, self.diffusion.original_timesteps(t))
            drawn = torch.randn(x.shape, generator=generator, device=x.device, dtype=torch.float32)
            x = self.step(output, x, index, drawn).to(noise.dtype)
            if after_step is not None:
                x = after_step(x, index, self.diffusion)
        return x


@TASK_UTILS.register_module()
class AncestralSampler(_Sampler):
    """The reverse chain of DDPM with learned variances.

    Args:
        spacing: Steps to keep of the original chain, see ``respace_steps``. Defaults to None.
        num_steps: Length of the original chain. Defaults to 1000.
    """

    def step(self, output: Tensor, x: Tensor, index: int, noise: Tensor) -> Tensor:
        """One step of the reverse chain."""
        t = torch.full((len(x),), index, device=x.device, dtype=torch.long)
        return self.diffusion.ancestral_step(output, x, t, noise)


@TASK_UTILS.register_module()
class DDIMSampler(_Sampler):
    """DDIM (arXiv 2010.02502).

    Args:
        spacing: Steps to keep. Defaults to ``ddim50``.
        eta: 0 is deterministic, 1 has the noise of DDPM. Defaults to 0.0.
        num_steps: Length of the original chain. Defaults to 1000.
    """

    def __init__(
        self, spacing: str | int | None = "ddim50", eta: float = 0.0, num_steps: int = 1000
    ) -> None:
        super().__init__(spacing, num_steps)
        self.eta = eta

    def step(self, output: Tensor, x: Tensor, index: int, noise: Tensor) -> Tensor:
        """One DDIM step."""
        t = torch.full((len(x),), index, device=x.device, dtype=torch.long)
        return self.diffusion.ddim_step(output, x, t, noise, self.eta)


def _logsnr_steps(count: int, num_steps: int) -> list[int]:
    """``count`` distinct steps, as even as possible in the log signal-to-noise ratio."""
    if not 2 <= count <= num_steps:
        raise ValueError(f"steps: expected 2..{num_steps}, got {count}")
    abar = GaussianDiffusion(num_steps=num_steps).alphas_cumprod
    ratio = np.log(abar) - np.log1p(-abar)  # falls with the step
    wanted = np.linspace(ratio[0], ratio[-1], count)
    steps = [int(np.abs(ratio - value).argmin()) for value in wanted]
    for i in range(1, count):  # near the clean end neighbours may coincide
        steps[i] = max(steps[i], steps[i - 1] + 1)
    for i in range(count - 1, -1, -1):
        steps[i] = min(steps[i], num_steps - (count - i))
    return steps


@TASK_UTILS.register_module()
class DPMSolverSampler(_Sampler):
    """Multistep DPM-Solver++ in data prediction (arXiv 2211.01095, algorithm 2).

    Order 3 uses the two previous clean-sample estimates, order 2 one of them; the first steps
    use what is there.

    Args:
        spacing: Number of steps, spread evenly in half the log signal-to-noise ratio (steps
            that are even in time would leave one huge step at the end, where a higher order
            is worse than none); or the steps themselves. Defaults to 20.
        order: 1, 2 or 3. Defaults to 2.
        num_steps: Length of the original chain. Defaults to 1000.
        stochastic: Solve the stochastic equation (SDE-DPM-Solver++, order 1 or 2) instead of
            the deterministic one: each step draws new noise, which the next ones clean
            together with the errors of an imperfect denoiser. Defaults to False.
    """

    def __init__(
        self,
        spacing: int | Sequence[int] = 20,
        order: int = 2,
        num_steps: int = 1000,
        stochastic: bool = False,
    ) -> None:
        if isinstance(spacing, int):
            spacing = _logsnr_steps(spacing, num_steps)
        super().__init__(spacing, num_steps)
        check_choice("order", order, (1, 2, 3))
        if stochastic and order == 3:
            raise ValueError("order: expected 1 or 2 where stochastic is set, got 3")
        self.order = order
        self.stochastic = stochastic
        abar = np.clip(self.diffusion.alphas_cumprod, None, 1 - 1e-12)
        self._alpha = np.sqrt(abar)
        self._sigma = np.sqrt(1 - abar)
        self._lambda = np.log(self._alpha) - np.log(self._sigma)
        self._history: list[tuple[int, Tensor]] = []

    def reset(self) -> None:
        """Forget the predictions of earlier steps."""
        self._history = []

    def step(self, output: Tensor, x: Tensor, index: int, noise: Tensor) -> Tensor:
        """One step of the solver, from this prediction and the last ones."""
        t = torch.full((len(x),), index, device=x.device, dtype=torch.long)
        x_start = self.diffusion.step_from_output(output, x, t).x_start
        self._history = [*self._history[-2:], (index, x_start)]
        if index == 0:
            return x_start
        target = index - 1
        h = self._lambda[target] - self._lambda[index]
        if self.stochastic:
            return self._stochastic_step(x.float(), x_start, noise, index, h)
        ratio = self._sigma[target] / self._sigma[index]
        phi1 = -np.expm1(-h)  # weight of the clean sample, over alpha of the target
        alpha = self._alpha[target]
        result = ratio * x.float() + alpha * phi1 * x_start
        order = min(self.order, len(self._history))
        if order == 1:
            return result
        earlier, earlier_start = self._history[-2]
        h0 = self._lambda[index] - self._lambda[earlier]
        slope0 = (x_start - earlier_start) * (h / h0)
        if order == 2:
            return result + 0.5 * alpha * phi1 * slope0
        oldest, oldest_start = self._history[-3]
        h1 = self._lambda[earlier] - self._lambda[oldest]
        r0, r1 = h0 / h, h1 / h
        slope1 = (earlier_start - oldest_start) / r1
        first = slope0 + (r0 / (r0 + r1)) * (slope0 - slope1)
        second = (slope0 - slope1) / (r0 + r1)
        # Integrals of e^lambda times 1, lambda, lambda^2/2 over the step.
        phi2 = phi1 / h - 1.0
        phi3 = phi2 / h + 0.5
        return result - alpha * phi2 * first + alpha * phi3 * second

    def _stochastic_step(
        self, x: Tensor, x_start: Tensor, noise: Tensor, index: int, h: float
    ) -> Tensor:
        """To the next cleaner step, ``h`` further in half the log signal-to-noise ratio."""
        renewed = -np.expm1(-2 * h)  # share of the noise's variance that is drawn anew
        if self.order == 2 and len(self._history) > 1:
            earlier, earlier_start = self._history[-2]
            h0 = self._lambda[index] - self._lambda[earlier]
            x_start = x_start + 0.5 * (h / h0) * (x_start - earlier_start)
        sigma = self._sigma[index - 1]
        kept = sigma / self._sigma[index] * np.exp(-h)
        fresh = sigma * np.sqrt(renewed) * noise
        return kept * x + self._alpha[index - 1] * renewed * x_start + fresh
