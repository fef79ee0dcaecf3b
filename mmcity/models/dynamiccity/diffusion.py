"""Gaussian diffusion with learned variances: tables, training terms, single steps.

Objects are usable without the transformer: a *denoiser* is any callable
``(x (B, C, ...), t (B,) original steps) -> (B, 2C, ...)``. Sources: DDPM (arXiv
2006.11239), improved DDPM (arXiv 2102.09672).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
#: Floor of probabilities before a logarithm; latents are not confined to [-1, 1].
_MIN_PROBABILITY = 1e-12


def respace_steps(num_steps: int, spacing: str | int) -> list[int]:
    """Original steps that a shorter chain keeps, ascending.

    Args:
        num_steps: Length of the original chain.
        spacing: ``"a,b,c"`` takes that many steps from equal sections, ``N`` from one section,
            ``"ddimN"`` every s-th step with the smallest integer stride giving N steps.

    Raises:
        ValueError: If a section holds fewer steps than asked for, or no stride fits.
    """
    spacing = str(spacing)
    if spacing.startswith("ddim"):
        wanted = int(spacing[4:])
        for stride in range(1, num_steps + 1):
            if len(range(0, num_steps, stride)) == wanted:
                return list(range(0, num_steps, stride))
        raise ValueError(f"steps: expected an integer stride in {num_steps}, got {wanted}")
    counts = [int(part) for part in spacing.split(",")]
    size, extra = divmod(num_steps, len(counts))
    steps, start = [], 0
    for i, count in enumerate(counts):
        section = size + (1 if i < extra else 0)
        if not 0 < count <= section:
            raise ValueError(f"steps: expected at most the {section} of a section, got {count}")
        stride = 1.0 if count == 1 else (section - 1) / (count - 1)
        position = 0.0
        for _ in range(count):
            steps.append(start + round(position))
            # Accumulated on purpose: the closed form rounds some exact halves differently.
            position += stride
        start += section
    return steps


@dataclass
class DiffusionStep:
    """Predictions of the denoiser at one step.

    Attributes:
        mean: Mean of x_{t-1}, ``(B, C, ...)``.
        log_variance: Its log-variance.
        x_start: Predicted clean sample.
        noise: Predicted noise.
    """

    mean: Tensor
    log_variance: Tensor
    x_start: Tensor
    noise: Tensor


class GaussianDiffusion:
    """Linear-beta diffusion with noise prediction and learned variance range.

    Args:
        num_steps: Length T of the original chain. Defaults to 1000.
        beta_start: First beta. Defaults to 1e-4.
        beta_end: Last beta. Defaults to 2e-2.
        spacing: Steps to keep, see :func:`respace_steps`, or their ascending list.
            Defaults to None (all).
    """

    def __init__(
        self,
        num_steps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 2e-2,
        spacing: str | int | Sequence[int] | None = None,
    ) -> None:
        self.original_steps = num_steps
        betas = np.linspace(beta_start, beta_end, num_steps, dtype=np.float64)
        kept = list(range(num_steps))
        if spacing is not None and str(spacing) != "":
            listed = isinstance(spacing, (list, tuple))
            kept = list(spacing) if listed else respace_steps(num_steps, spacing)
            cumulative = np.cumprod(1.0 - betas)[kept]
            betas = 1.0 - cumulative / np.append(1.0, cumulative[:-1])
        self.timestep_map = kept
        self.betas = betas
        self.alphas_cumprod = np.cumprod(1.0 - betas)
        self.alphas_cumprod_prev = np.append(1.0, self.alphas_cumprod[:-1])
        variance = betas * (1.0 - self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)
        self.posterior_variance = variance
        clipped = np.append(variance[1:2] if len(variance) > 1 else betas[:1], variance[1:])
        self.posterior_log_variance_clipped = np.log(clipped)
        self.posterior_mean_coef1 = (
            betas * np.sqrt(self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)
        )
        self.posterior_mean_coef2 = (
            (1.0 - self.alphas_cumprod_prev) * np.sqrt(1.0 - betas) / (1.0 - self.alphas_cumprod)
        )
        self.log_betas = np.log(betas)
        self.x_coef = np.sqrt(1.0 / self.alphas_cumprod)
        self.noise_coef = np.sqrt(1.0 / self.alphas_cumprod - 1.0)
        self._tables: dict[tuple[str, torch.device], Tensor] = {}

    def __len__(self) -> int:
        return len(self.betas)

    def _at(self, name: str, t: Tensor, like: Tensor) -> Tensor:
        """Entries of a table for the steps ``(B,)``, as float32 that goes with ``like``."""
        return self._table(name, t.device)[t].float().view(-1, *[1] * (like.dim() - 1))

    def _table(self, name: str, device: torch.device) -> Tensor:
        """A table, copied to a device once."""
        if (name, device) not in self._tables:
            self._tables[name, device] = torch.as_tensor(getattr(self, name)).to(device)
        return self._tables[name, device]

    def original_timesteps(self, t: Tensor) -> Tensor:
        """Step numbers of the original chain that the denoiser is called with."""
        return self._table("timestep_map", t.device)[t]

    def signal_share(self, t: Tensor) -> Tensor:
        """Share ``(B,)`` of the clean sample in the variance of steps of this chain."""
        return self._at("alphas_cumprod", t, t)

    def q_sample(self, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Noisy sample x_t; ``t`` indexes this chain, ``(B,)``."""
        abar = self._at("alphas_cumprod", t, x_start)
        return abar.sqrt() * x_start + (1.0 - abar).sqrt() * noise

    def step_from_output(self, output: Tensor, x: Tensor, t: Tensor) -> DiffusionStep:
        """Posterior implied by a denoiser output ``(B, 2C, ...)`` at ``x`` ``(B, C, ...)``."""
        noise, raw = output.float().split(x.shape[1], dim=1)
        upper = self._at("log_betas", t, x)
        lower = self._at("posterior_log_variance_clipped", t, x)
        share = (raw + 1) / 2
        log_variance = share * upper + (1 - share) * lower
        x_start = self._at("x_coef", t, x) * x - self._at("noise_coef", t, x) * noise
        mean = (
            self._at("posterior_mean_coef1", t, x) * x_start
            + self._at("posterior_mean_coef2", t, x) * x
        )
        return DiffusionStep(mean, log_variance, x_start, noise)

    def noise_from_velocity(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Denoiser output with noise channels, from one whose first channels are the velocity
        ``sqrt(abar) noise - sqrt(1 - abar) x_start`` (arXiv 2202.00512, appendix D)."""
        velocity, raw = output.float().split(x.shape[1], dim=1)
        abar = self._at("alphas_cumprod", t, x)
        return torch.cat([abar.sqrt() * velocity + (1.0 - abar).sqrt() * x, raw], dim=1)

    def limit_start(self, output: Tensor, x: Tensor, t: Tensor, limit: float) -> Tensor:
        """Denoiser output whose implied clean sample stays within ``-limit..limit``.

        Near pure noise a small error of the predicted noise is a huge one of the clean sample,
        which a sampler would carry on.
        """
        step = self.step_from_output(output, x, t)
        abar = self._at("alphas_cumprod", t, x)
        start = step.x_start.clamp(-limit, limit)
        noise = (x - abar.sqrt() * start) / (1.0 - abar).sqrt()
        return torch.cat([noise, output[:, x.shape[1] :].float()], dim=1)

    def ancestral_step(self, output: Tensor, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """One step of the reverse chain (x_start is not clipped)."""
        step = self.step_from_output(output, x, t)
        moving = (t > 0).float().view(-1, *[1] * (x.dim() - 1))
        return step.mean + moving * torch.exp(0.5 * step.log_variance) * noise

    def ddim_step(
        self, output: Tensor, x: Tensor, t: Tensor, noise: Tensor | None = None, eta: float = 0.0
    ) -> Tensor:
        """One DDIM step (arXiv 2010.02502, equation 12)."""
        step = self.step_from_output(output, x, t)
        abar = self._at("alphas_cumprod", t, x)
        previous = self._at("alphas_cumprod_prev", t, x)
        sigma = eta * ((1 - previous) / (1 - abar)).sqrt() * (1 - abar / previous).sqrt()
        direction = (1 - previous - sigma.square()).clamp(min=0).sqrt() * step.noise
        result = previous.sqrt() * step.x_start + direction
        if eta > 0:
            moving = (t > 0).float().view(-1, *[1] * (x.dim() - 1))
            result = result + moving * sigma * noise
        return result

    def training_losses(
        self,
        denoiser: Denoiser,
        x_start: Tensor,
        t: Tensor,
        noise: Tensor,
        mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Loss terms per sample.

        Args:
            denoiser: Noise predictor.
            x_start: Clean samples ``(B, C, S, S)``.
            t: Steps of this chain ``(B,)``.
            noise: Standard normal, like ``x_start``.
            mask: ``(1, 1, S, S)``, 1 where a position holds data; limits ``mse``.

        Returns:
            ``mse``, ``vb`` (variational bound in bits, its mean branch detached) and
            ``loss`` = their sum, each ``(B,)``.
        """
        x_t = self.q_sample(x_start, t, noise)
        output = denoiser(x_t, self.original_timesteps(t)).float()
        predicted, raw = output.split(x_start.shape[1], dim=1)
        error = (noise - predicted).square()
        if mask is None:
            mse = error.flatten(1).mean(1)
        else:
            mse = (error * mask).flatten(1).sum(1) / (x_start.shape[1] * mask.sum())
        detached = torch.cat([predicted.detach(), raw], dim=1)
        vb = self._variational_bound(detached, x_start, x_t, t)
        return {"mse": mse, "vb": vb, "loss": mse + vb}

    def _variational_bound(self, output: Tensor, x_start: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        step = self.step_from_output(output, x_t, t)
        true_mean = (
            self._at("posterior_mean_coef1", t, x_t) * x_start
            + self._at("posterior_mean_coef2", t, x_t) * x_t
        )
        true_log = self._at("posterior_log_variance_clipped", t, x_t)
        kl = 0.5 * (
            -1.0
            + step.log_variance
            - true_log
            + torch.exp(true_log - step.log_variance)
            + (true_mean - step.mean).square() * torch.exp(-step.log_variance)
        )
        first = -_discretized_log_likelihood(x_start, step.mean, 0.5 * step.log_variance)
        bits = torch.where((t == 0).view(-1, *[1] * (x_t.dim() - 1)), first, kl) / math.log(2.0)
        return bits.flatten(1).mean(1)


def _discretized_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log-probability of the 1/127.5 wide bin around ``x``; outermost bins are open."""

    def cdf(value: Tensor) -> Tensor:
        cubic = value + 0.044715 * value.pow(3)
        return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * cubic))

    centred, inverse = x - mean, torch.exp(-log_scale)
    upper = cdf(inverse * (centred + 1.0 / 255.0))
    lower = cdf(inverse * (centred - 1.0 / 255.0))
    probability = torch.where(x < -0.999, upper, torch.where(x > 0.999, 1 - lower, upper - lower))
    return probability.clamp(min=_MIN_PROBABILITY).log()
