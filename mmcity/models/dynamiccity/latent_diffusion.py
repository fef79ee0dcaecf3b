"""Diffusion of HexPlane rollouts: training loss, sampling, decoding to occupancy."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from torch import Tensor

from mmcity.models.layers.batches import stacked
from mmcity.models.layers.frozen import check_loaded, freeze
from mmcity.models.preprocessors import PinnedDataPreprocessor
from mmcity.registry import MODELS, TASK_UTILS
from mmcity.structures import OccupancyDataSample
from mmcity.utils.checks import check_choice

from .diffusion import GaussianDiffusion
from .hexplane import from_rollout, rollout_mask, rollout_size, rollout_slices
from .inpainting import RepaintSchedule
from .samplers import StepHook


@MODELS.register_module()
class HexPlaneDiffusion(BaseModel):
    """Wraps a HexPlaneDiT with its diffusion, a sampler and (to decode) a HexPlane VAE.

    Args:
        denoiser: Config of a :class:`HexPlaneDiT`.
        diffusion: Arguments of :class:`GaussianDiffusion` for training.
        sampler: Config of a sampler (``AncestralSampler``, ``DDIMSampler``,
            ``DPMSolverSampler``). Defaults to the ancestral chain with 1000 steps.
        guidance_scale: Of classifier-free guidance; 1.0 leaves it out. Defaults to 4.0.
        vae: Config of a :class:`HexPlaneVAE`, frozen; give its weights by ``init_cfg``.
            Needed to predict occupancy, not to train. Defaults to None.
        normalize: ``none`` (raw means, as published) or ``plane_channel`` (standardise each
            channel of each plane; :meth:`set_statistics` must be called before training).
        prediction: What the denoiser's first channels are: ``noise`` (as published) or
            ``velocity``, with an equal weight for all steps: then the network need not carry
            its noisy input through to its output, for which small ones are too narrow.
        start_limit: Samplers keep the clean sample that they foresee within this many units
            of the space that is diffused (standard deviations, with ``plane_channel``), which
            small networks need at the first steps. Defaults to None (no limit, as published).
        predecessor_overlap: With the ``hexplane`` condition: frames that a clip shares with the
            one before it, in training and in long sequences. A clip that must go on with
            frames it is shown keeps to the scene far better than one that only follows them.
            Defaults to 0 (as published).
        data_preprocessor: Config. Defaults to :class:`PinnedDataPreprocessor`.
        init_cfg: As in mmengine.
    """

    def __init__(
        self,
        denoiser: dict,
        diffusion: dict | None = None,
        sampler: dict | None = None,
        guidance_scale: float = 4.0,
        vae: dict | None = None,
        normalize: str = "none",
        prediction: str = "noise",
        start_limit: float | None = None,
        predecessor_overlap: int = 0,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor or PinnedDataPreprocessor(), init_cfg)
        check_choice("normalize", normalize, ("none", "plane_channel"))
        check_choice("prediction", prediction, ("noise", "velocity"))
        self.prediction = prediction
        self.denoiser = MODELS.build(denoiser)
        self.diffusion = GaussianDiffusion(**(diffusion or {}))
        self.sampler = TASK_UTILS.build(sampler or {"type": "AncestralSampler"})
        self.guidance_scale = guidance_scale
        self.normalize = normalize
        self.start_limit = start_limit
        self.predecessor_overlap = predecessor_overlap
        self.vae = None
        if vae is not None:
            self.vae = freeze(MODELS.build(vae))
            if tuple(self.vae.txyz) != tuple(self.denoiser.txyz):
                raise ValueError(
                    f"vae: expected the denoiser's latent sizes txyz = {self.denoiser.txyz}, got "
                    f"{self.vae.txyz}"
                )
        channels = self.denoiser.in_channels
        self.register_buffer("latent_mean", torch.zeros(6, channels))
        self.register_buffer("latent_std", torch.ones(6, channels))
        self.register_buffer("position_mask", rollout_mask(self.txyz), persistent=False)

    @property
    def txyz(self) -> tuple[int, int, int, int]:
        """Latent sizes ``(t, x, y, z)``."""
        return self.denoiser.txyz

    def train(self, mode: bool = True) -> "HexPlaneDiffusion":
        """Set training mode; the autoencoder stays in evaluation mode."""
        super().train(mode)
        if self.vae is not None:
            self.vae.eval()
        return self

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Store mean and standard deviation ``(6, C)`` per plane and channel.

        Channels that hardly vary, since the autoencoder makes no use of them, are not blown up
        to noise of unit size: the least deviation is a hundredth of the largest.
        """
        expected = tuple(self.latent_mean.shape)
        if tuple(mean.shape) != expected or tuple(std.shape) != expected:
            raise ValueError(
                f"statistics must be {expected}, got {tuple(mean.shape)} and {tuple(std.shape)}"
            )
        if not bool((std > 0).all()):
            raise ValueError("standard deviations: expected positive numbers, got others")
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std.clamp_min(0.01 * float(std.max())))

    def _statistics_maps(self) -> tuple[Tensor, Tensor]:
        size = rollout_size(self.txyz)
        mean = self.latent_mean.new_zeros(self.latent_mean.shape[1], size, size)
        std = torch.ones_like(mean)
        for i, (rows, cols) in enumerate(rollout_slices(self.txyz)):
            mean[:, rows, cols] = self.latent_mean[i, :, None, None]
            std[:, rows, cols] = self.latent_std[i, :, None, None]
        return mean, std

    def standardize(self, rollout: Tensor) -> Tensor:
        """Latents to the space that is diffused."""
        if self.normalize == "none":
            return rollout
        mean, std = self._statistics_maps()
        return (rollout - mean) / std * self.position_mask

    def unstandardize(self, rollout: Tensor) -> Tensor:
        """Inverse of :meth:`standardize`."""
        if self.normalize == "none":
            return rollout
        mean, std = self._statistics_maps()
        return (rollout * std + mean) * self.position_mask

    def _conditions(self, inputs: dict) -> dict[str, Tensor]:
        conditions = {}
        for name in self.denoiser.conditions:
            if inputs.get(name) is None:
                continue
            value = stacked(inputs[name]).to(self.latent_mean.device)
            conditions[name] = self.standardize(value) if name == "hexplane" else value
        return conditions

    def forward(
        self,
        inputs: dict,
        data_samples: list[OccupancyDataSample] | None = None,
        mode: str = "tensor",
    ):
        """Train on, or sample, a batch.

        Args:
            inputs: ``rollout`` ``(B, C, S, S)`` to train on, and conditions by name
                (``hexplane``, ``layout``, ``trajectory``, ``command``); one that is missing is
                dropped for the whole batch.
            data_samples: One per clip; ``predict`` fills ``pred_occupancy``.
            mode: ``loss``, ``predict`` (one sample per data sample) or ``tensor`` (the
                sampled rollouts).
        """
        conditions = self._conditions(inputs)
        if mode == "loss":
            x_start = self.standardize(stacked(inputs["rollout"]).float())
            t = torch.randint(len(self.diffusion), (len(x_start),), device=x_start.device)
            losses = self.diffusion.training_losses(
                lambda x, step: self._as_noise(self.denoiser(x, step, conditions), x, step),
                x_start,
                t,
                torch.randn_like(x_start),
                self.position_mask,
            )
            mse = losses["mse"]
            if self.prediction == "velocity":  # the error of the noise is sqrt(abar) times its own
                mse = mse / self.diffusion.signal_share(t)
            return {"loss_mse": mse.mean(), "loss_vb": losses["vb"].mean()}
        check_choice("mode", mode, ("loss", "predict", "tensor"))
        count = len(data_samples) if data_samples is not None else self._batch_of(inputs)
        rollout = self.sample_rollouts(count, conditions)
        if mode == "tensor":
            return rollout
        return OccupancyDataSample.predicted(self.decode_rollouts(rollout), data_samples)

    @staticmethod
    def _batch_of(inputs: dict) -> int:
        for value in inputs.values():
            return len(value)
        return 1

    @torch.no_grad()
    def sample_rollouts(
        self,
        count: int,
        conditions: dict[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        after_step: StepHook | None = None,
        guidance_scale: float | None = None,
    ) -> Tensor:
        """Draw rollouts.

        Args:
            count: Number of samples B.
            conditions: By name, batch B, HexPlanes standardised already.
            generator: Random numbers; makes the draw repeatable.
            after_step: Called after each step with (sample, index, diffusion).
            guidance_scale: Defaults to the model's own.

        Returns:
            ``(B, C, S, S)`` latents, not standardised.
        """
        device = self.latent_mean.device
        size = rollout_size(self.txyz)
        noise = torch.randn(
            count, self.denoiser.in_channels, size, size, generator=generator, device=device
        )
        rollout = self.sampler.sample(
            self._denoise_with(conditions or {}, guidance_scale), noise, generator, after_step
        )
        return self.unstandardize(rollout * self.position_mask)

    def _as_noise(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        if self.prediction == "noise":
            return output
        return self.diffusion.noise_from_velocity(output, x, t)

    def _denoise_with(self, conditions: dict[str, Tensor], guidance_scale: float | None):
        scale = self.guidance_scale if guidance_scale is None else guidance_scale

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            if scale == 1.0 or not conditions:
                output = self.denoiser(x, t, conditions)
            else:
                output = self.denoiser.forward_guided(x, t, scale, conditions)[: len(x)]
            output = self._as_noise(output, x, t)
            if self.start_limit is None:
                return output
            return self.diffusion.limit_start(output, x, t, self.start_limit)

        return denoise

    @torch.no_grad()
    def inpaint_rollouts(
        self,
        known: Tensor,
        unknown_mask: Tensor,
        conditions: dict[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        schedule: RepaintSchedule | None = None,
        guidance_scale: float | None = None,
    ) -> Tensor:
        """Fill the unknown cells of rollouts (masked sampling, arXiv 2201.09865).

        Args:
            known: Latents ``(B, C, S, S)``, not standardised.
            unknown_mask: ``(B or 1, 1, S, S)``, 1 where a cell is to be generated.
            conditions, generator, guidance_scale: As in :meth:`sample_rollouts`.
            schedule: Resampling jumps. Defaults to none.

        Returns:
            ``(B, C, S, S)`` latents; known cells are as they came.
        """
        start = self.standardize(known)
        mask = unknown_mask.to(start)
        denoise = self._denoise_with(conditions or {}, guidance_scale)
        diffusion = self.sampler.diffusion
        schedule = schedule or RepaintSchedule(1, 1)

        def draw() -> Tensor:
            return torch.randn(start.shape, generator=generator, device=start.device)

        self.sampler.reset()
        x = draw()
        for index, is_forward in schedule.steps(len(diffusion)):
            t = torch.full((len(x),), index, device=x.device, dtype=torch.long)
            if is_forward:  # noise the sample of index - 1 back to index
                beta = float(diffusion.betas[index])
                x = (1 - beta) ** 0.5 * x + beta**0.5 * draw()
                self.sampler.reset()
                continue
            output = denoise(x, diffusion.original_timesteps(t))
            x = self.sampler.step(output, x, index, draw())
            if index > 0:
                kept = diffusion.q_sample(start, t - 1, draw())
            else:
                kept = start
            x = mask * x + (1 - mask) * kept
        return self.unstandardize(x * self.position_mask)

    @torch.no_grad()
    def decode_rollouts(self, rollouts: Tensor) -> Tensor:
        """Latent rollouts ``(B, C, S, S)`` to labels ``(B, T, X, Y, Z)`` uint8."""
        if self.vae is None:
            raise RuntimeError("vae: expected one in the config of this model, got none")
        check_loaded(self.vae, "model.vae")
        return self.vae.decode_labels(from_rollout(rollouts, self.txyz))

    @torch.no_grad()
    def encode_clips(self, voxels: Tensor) -> Sequence[Tensor]:
        """Labels ``(B, T, X, Y, Z)`` to latent plane means."""
        if self.vae is None:
            raise RuntimeError("vae: expected one in the config of this model, got none")
        check_loaded(self.vae, "model.vae")
        return self.vae.encode(voxels)[0]
