"""Generate, condition, continue and inpaint 4D street scenes."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor

from mmcity.engine.checkpointing import load_checkpoint_weights
from mmcity.models.dynamiccity.conditions import COMMANDS
from mmcity.models.dynamiccity.hexplane import to_rollout
from mmcity.models.dynamiccity.inpainting import RepaintSchedule, region_to_rollout_mask
from mmcity.models.dynamiccity.latent_diffusion import HexPlaneDiffusion
from mmcity.registry import MODELS, TASK_UTILS

__all__ = ["OccupancyGenerator"]


class OccupancyGenerator:
    """Samples occupancy clips from a trained diffusion model and its VAE; no data set needed.

    Args:
        config: Config file or object whose ``model`` is a ``HexPlaneDiffusion`` with a ``vae``.
        checkpoint: Weights of the diffusion model (EMA weights are taken where they exist).
        vae_checkpoint: Weights of the VAE, if the checkpoint does not hold them.
        device: Defaults to ``cuda`` where there is one, else ``cpu``.
        sampler: Sampler config that replaces the model's. Defaults to None.
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path,
        vae_checkpoint: str | Path | None = None,
        device: str | None = None,
        sampler: dict | None = None,
    ) -> None:
        cfg = config if isinstance(config, Config) else Config.fromfile(str(config))
        model_cfg = cfg.model.copy()
        model_cfg.pop("init_cfg", None)
        if model_cfg.get("vae") is None:
            raise ValueError("the config's model has no `vae`, which is needed to decode")
        self.model: HexPlaneDiffusion = MODELS.build(model_cfg)
        weights = load_checkpoint_weights(checkpoint)
        if vae_checkpoint is not None:
            vae = load_checkpoint_weights(vae_checkpoint)
            weights = {k: v for k, v in weights.items() if not k.startswith("vae.")}
            weights.update({f"vae.{key}": value for key, value in vae.items()})
        self._load(weights, str(checkpoint))
        if sampler is not None:
            self.model.sampler = TASK_UTILS.build(sampler)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model.to(self.device).eval()

    def _load(self, weights: dict[str, Tensor], source: str) -> None:
        missing, unexpected = self.model.load_state_dict(weights, strict=False)
        if missing or unexpected:
            hint = ""
            if any(key.startswith("vae.") for key in missing):
                hint = "; the VAE's weights are missing, give vae_checkpoint"
            raise ValueError(
                f"{source} does not fit the config: missing {missing[:5]} ({len(missing)} in all), "
                f"unexpected {unexpected[:5]} ({len(unexpected)} in all){hint}"
            )

    def _generator(self, seed: int | None) -> torch.Generator | None:
        if seed is None:
            return None
        return torch.Generator(device=self.device).manual_seed(seed)

    def _prepare(self, count: int, conditions: dict) -> dict[str, Tensor]:
        prepared = {}
        for name, value in conditions.items():
            if value is None:
                continue
            if name not in self.model.denoiser.conditions:
                raise ValueError(
                    f"this model has conditions {self.model.denoiser.conditions}, got '{name}'"
                )
            value = torch.as_tensor(value).to(self.device)
            single = {"command": 0, "trajectory": 2, "layout": 3, "hexplane": 3}[name]
            if value.dim() == single:
                value = value.expand(count, *value.shape)
            if len(value) != count:
                raise ValueError(f"condition '{name}' is for {len(value)} samples, not {count}")
            if name == "command" and not bool(((value >= 0) & (value < len(COMMANDS))).all()):
                raise ValueError(f"commands are 0..{len(COMMANDS) - 1} {COMMANDS}, got {value}")
            prepared[name] = value.float() if name != "command" else value.long()
        return prepared

    @torch.no_grad()
    def generate(
        self,
        num_samples: int = 1,
        command: int | Sequence[int] | None = None,
        trajectory: Tensor | None = None,
        layout: Tensor | None = None,
        previous: Tensor | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Draw clips.

        Args:
            num_samples: Number of clips B.
            command: 0 static, 1 forward, 2 left, 3 right; one, or one a sample.
            trajectory: ``(T, 3)`` or ``(B, T, 3)`` x, y (metres), yaw (radians).
            layout: Vehicle layout ``(T, h, w)`` or ``(B, T, h, w)``.
            previous: Labels ``(B, T, X, Y, Z)`` of the clips that come before; their last
                ``predecessor_overlap`` frames are the first of the new clips.
            guidance_scale: Defaults to the model's.
            seed: Makes the draw repeatable.

        Returns:
            Labels uint8 ``(B, T, X, Y, Z)`` on the model's device.
        """
        hexplane = None if previous is None else self._encode(previous)
        rollouts = self._sample(
            num_samples, command, trajectory, layout, hexplane, guidance_scale, seed
        )
        return self.model.decode_rollouts(rollouts)

    def _encode(self, voxels: Tensor) -> Tensor:
        return to_rollout(self.model.encode_clips(voxels.to(self.device)))

    def _sample(self, count, command, trajectory, layout, hexplane, guidance_scale, seed) -> Tensor:
        conditions = self._prepare(
            count,
            {
                "command": command,
                "trajectory": trajectory,
                "layout": layout,
                "hexplane": None if hexplane is None else self.model.standardize(hexplane),
            },
        )
        return self.model.sample_rollouts(
            count, conditions, self._generator(seed), guidance_scale=guidance_scale
        )

    @torch.no_grad()
    def generate_long(
        self,
        num_windows: int,
        num_samples: int = 1,
        overlap: int | None = None,
        command: int | Tensor | None = None,
        trajectory: Tensor | None = None,
        layout: Tensor | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        start: Tensor | None = None,
    ) -> Tensor:
        """Continue clips window by window.

        With a model that was trained with the ``hexplane`` condition, each window sees the
        rollout of the one before, with as many frames in common as in training
        (``predecessor_overlap``). A model without such an overlap can be given one here: the
        first frames of a window are then held to the last frames of the one before, by masked
        sampling of the planes that have a time axis. Overlapping frames appear once in the
        result, as the earlier window has them.

        Args:
            num_windows: Windows to generate.
            num_samples: Sequences B.
            overlap: Frames shared by neighbouring windows; a multiple of the temporal
                reduction of the latents. Defaults to the model's ``predecessor_overlap``.
            command: Driving command of all windows, one, or one a sample. Defaults to None.
            trajectory: ``(F, 3)`` or ``(B, F, 3)`` poses of the whole sequence, cut into windows
                and made relative to each window's first pose. Defaults to None.
            layout: Vehicle layout ``(F, h, w)`` or ``(B, F, h, w)`` of the whole sequence.
                Defaults to None.
            guidance_scale, seed: As in :meth:`generate`.
            start: Labels ``(B, T, X, Y, Z)`` to continue. Defaults to None.

        Returns:
            Labels uint8 ``(B, F, X, Y, Z)`` with ``F = T + (num_windows - 1) (T - overlap)``,
            and the ``T - overlap`` frames after ``start`` for each window if that is given.
        """
        frames = self.model.vae.sequence_length
        reduction = frames // self.model.txyz[0]
        trained = self.model.predecessor_overlap
        overlap = trained if overlap is None else overlap
        if trained and overlap != trained:
            raise ValueError(
                f"this model was trained with windows that share {trained} frames "
                f"(predecessor_overlap), got overlap {overlap}"
            )
        if not 0 <= overlap < frames or overlap % reduction:
            raise ValueError(
                f"overlap must be a multiple of {reduction} below {frames}, got {overlap}"
            )
        clips = [] if start is None else [start.to(self.device)]
        rollout = None if start is None else self._encode(start)
        uses_previous = "hexplane" in self.model.denoiser.conditions
        for window in range(num_windows):
            first = window * (frames - overlap)
            window_seed = None if seed is None else seed + window
            conditions = self._prepare(
                num_samples,
                {
                    "command": command,
                    "trajectory": self._window_trajectory(trajectory, first, frames),
                    "layout": self._window(layout, -3, first, frames, "layout"),
                    "hexplane": self.model.standardize(rollout)
                    if uses_previous and rollout is not None
                    else None,
                },
            )
            generator = self._generator(window_seed)
            if overlap and clips and not trained:
                rollout = self._sample_overlapping(
                    clips[-1], overlap, conditions, generator, guidance_scale
                )
            else:
                rollout = self.model.sample_rollouts(
                    num_samples, conditions, generator, guidance_scale=guidance_scale
                )
            clip = self.model.decode_rollouts(rollout)
            if overlap and clips:
                clip[:, :overlap] = clips[-1][:, -overlap:]
            if trained:  # the next window sees what the result shows
                rollout = self._encode(clip)
            clips.append(clip)
        head = clips[:1] if start is None else []
        rest = clips[1:]
        return torch.cat([*head, *(clip[:, overlap:] for clip in rest)], dim=1)

    @staticmethod
    def _window(
        sequence: Tensor | None, axis: int, first: int, frames: int, name: str
    ) -> Tensor | None:
        """The frames of one window of a condition that is given for the whole sequence."""
        if sequence is None:
            return None
        sequence = torch.as_tensor(sequence)
        if sequence.shape[axis] < first + frames:
            raise ValueError(
                f"the {name} has {sequence.shape[axis]} frames, the window from frame {first} on "
                f"needs {first + frames}"
            )
        return sequence.narrow(axis, first, frames)

    def _window_trajectory(
        self, trajectory: Tensor | None, first: int, frames: int
    ) -> Tensor | None:
        part = self._window(trajectory, -2, first, frames, "trajectory")
        if part is None:
            return None
        part = part.double()
        x, y, yaw = part[..., :1, :].unbind(-1)
        cos, sin = torch.cos(yaw), torch.sin(yaw)
        dx, dy = part[..., 0] - x, part[..., 1] - y
        turn = torch.remainder(part[..., 2] - yaw + torch.pi, 2 * torch.pi) - torch.pi
        return torch.stack([cos * dx + sin * dy, -sin * dx + cos * dy, turn], dim=-1).float()

    def _sample_overlapping(
        self,
        previous: Tensor,
        overlap: int,
        conditions: dict[str, Tensor],
        generator: torch.Generator | None,
        guidance_scale: float | None,
    ) -> Tensor:
        frames = previous.shape[1]
        # The tail of the last clip, then its last frame held: only cells whose frames are all
        # known keep their latents.
        tail = previous[:, -overlap:]
        guess = torch.cat([tail, tail[:, -1:].expand(-1, frames - overlap, -1, -1, -1)], dim=1)
        region = torch.zeros_like(guess, dtype=torch.bool)
        region[:, overlap:] = True
        mask = region_to_rollout_mask(region, self.model.txyz)
        return self.model.inpaint_rollouts(
            self._encode(guess), mask, conditions, generator, guidance_scale=guidance_scale
        )

    @torch.no_grad()
    def inpaint(
        self,
        voxels: Tensor,
        region: Tensor,
        command: int | None = None,
        trajectory: Tensor | None = None,
        layout: Tensor | None = None,
        schedule: RepaintSchedule | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Replace a region of clips, in space and time; outside it the input stays as it is.

        Args:
            voxels: Labels ``(B, T, X, Y, Z)``.
            region: Bool, same shape or ``(T, X, Y, Z)``: True where to generate. A shifted
                box gives outpainting, late frames give continuation.
            command, trajectory, layout, guidance_scale, seed: As in :meth:`generate`.
            schedule: Resampling jumps. Defaults to none.

        Returns:
            Labels uint8 ``(B, T, X, Y, Z)``.
        """
        voxels = voxels.to(self.device)
        region = region.to(self.device).expand_as(voxels).bool()
        # Free space stands for the unknown, so that nothing of the old content leaks in.
        known = self._encode(torch.where(region, torch.zeros_like(voxels), voxels))
        mask = region_to_rollout_mask(region, self.model.txyz)
        conditions = self._prepare(
            len(voxels), {"command": command, "trajectory": trajectory, "layout": layout}
        )
        rollouts = self.model.inpaint_rollouts(
            known, mask, conditions, self._generator(seed), schedule, guidance_scale
        )
        decoded = self.model.decode_rollouts(rollouts)
        return torch.where(region, decoded, voxels.to(torch.uint8))
