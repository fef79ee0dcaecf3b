"""Generate, condition, continue and inpaint 4D street scenes."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmcity.apis.inferencer import Inferencer
from mmcity.engine.checkpointing import CheckpointError, load_checkpoint_weights
from mmcity.models.dynamiccity.conditions import COMMANDS
from mmcity.models.dynamiccity.hexplane import to_rollout
from mmcity.models.dynamiccity.inpainting import RepaintSchedule, region_to_rollout_mask
from mmcity.registry import INFERENCERS, MODELS, TASK_UTILS
from mmcity.utils.checks import check_choice
from mmcity.utils.fileio import read_arrays
from mmcity.visualization.occupancy import render_birds_eye

#: Dimensions of a condition that all samples share; one more is one for each sample.
_SHARED_DIMS = {"command": 0, "trajectory": 2, "layout": 3, "hexplane": 3}


def read_array(source: str | os.PathLike | np.ndarray | Tensor, name: str) -> Tensor:
    """A tensor of an array, an npy file, or the array called ``name`` of an npz file."""
    if not isinstance(source, (str, os.PathLike)):
        return torch.as_tensor(source)
    arrays = read_arrays(source, (name,))
    key = "data" if str(source).endswith(".npy") else name
    if key not in arrays:
        raise ValueError(f"{source}: expected an array '{name}', got {sorted(read_arrays(source))}")
    return torch.from_numpy(arrays[key])


@dataclass
class GeneratedClips:
    """Clips that a generator made.

    Attributes:
        labels: uint8 ``(B, F, X, Y, Z)``, 0 is free space.
        seeds: Seed of the batch that each clip was drawn in, None where none was given.
    """

    labels: Tensor
    seeds: list[int | None]


@INFERENCERS.register_module()
class OccupancyGenerator(Inferencer):
    """Samples occupancy clips from a trained diffusion model and its VAE; no data set needed.

    Example::

        generator = OccupancyGenerator("dynamiccity_dit_toytown_cpu", "dit.pth", "vae.pth")
        clips = generator(4, command="left", seed=0)
        longer = generator(4, num_windows=3, clips="clip.npz").labels

    Args:
        config: Config whose ``model`` is a ``HexPlaneDiffusion`` with a ``vae``, see
            :class:`~mmcity.apis.Inferencer`.
        checkpoint: Weights of the diffusion model (EMA weights are taken where they exist).
        vae_checkpoint: Weights of the VAE, if the checkpoint does not hold them.
        device: Defaults to ``cuda`` where there is one, else ``cpu``.
        sampler: Sampler config that replaces the model's. Defaults to None.
        show_progress: See :class:`~mmcity.apis.Inferencer`. Defaults to True.
    """

    def __init__(
        self,
        config: str | os.PathLike | Config,
        checkpoint: str | os.PathLike,
        vae_checkpoint: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        sampler: dict | None = None,
        show_progress: bool = True,
    ) -> None:
        self._vae_checkpoint = vae_checkpoint
        super().__init__(config, checkpoint, device, show_progress)
        if sampler is not None:
            self.model.sampler = TASK_UTILS.build(sampler)

    def build_model(self) -> nn.Module:
        """The diffusion model with its VAE."""
        model = self.cfg.model.copy()
        model.pop("init_cfg", None)
        if model.get("vae") is None:  # it need not be there to train
            model["vae"] = self.cfg.get("vae_model")
        if model["vae"] is None:
            raise ValueError("config: expected `model.vae` or `vae_model`, to decode, got none")
        return MODELS.build(model)

    def choose_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the diffusion model, and those of the VAE from its own checkpoint."""
        if self._vae_checkpoint is not None:
            vae = load_checkpoint_weights(self._vae_checkpoint)
            weights = {k: v for k, v in weights.items() if not k.startswith("vae.")}
            weights.update({f"vae.{key}": value for key, value in vae.items()})
        if not any(key.startswith("vae.") for key in weights):
            raise CheckpointError(
                "checkpoint: expected weights of the VAE too, got none: give vae_checkpoint "
                "(--vae-checkpoint)"
            )
        return weights

    def __call__(
        self,
        num_samples: int = 1,
        num_windows: int = 1,
        *,
        command: int | str | Sequence[int] | None = None,
        trajectory: Tensor | np.ndarray | str | os.PathLike | None = None,
        layout: Tensor | np.ndarray | str | os.PathLike | None = None,
        clips: Tensor | np.ndarray | str | os.PathLike | None = None,
        region: Tensor | np.ndarray | None = None,
        schedule: RepaintSchedule | None = None,
        overlap: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        batch_size: int | None = None,
    ) -> GeneratedClips:
        """Draw clips, continue given ones, or change a region of them.

        Args:
            num_samples: Clips B.
            num_windows: Windows of each clip, joined; see :meth:`generate_long`. Defaults to 1.
            command: ``static``, ``forward``, ``left``, ``right`` or its number 0 to 3; one, or
                one a sample. Defaults to None.
            trajectory: See :meth:`generate` and :meth:`generate_long`; also an npy file.
            layout: See there; also an npz file with an array ``layout``.
            clips: Labels ``(T, X, Y, Z)`` or ``(B, T, X, Y, Z)`` to continue, or, with a region,
                to change; also an npz file with an array ``voxels``. Defaults to None.
            region: See :meth:`inpaint`. Defaults to None.
            schedule: See :meth:`inpaint`.
            overlap: See :meth:`generate_long`.
            guidance_scale: Defaults to the model's.
            seed: Makes the draw repeatable; later batches count on from it.
            batch_size: Clips at once. Defaults to all.

        Returns:
            The new clips, or new frames of given ones, on the CPU.
        """
        if region is not None and clips is None:
            raise ValueError("region: expected clips to change too, got none: give clips")
        conditions = {
            "command": command
            if isinstance(command, (str, type(None)))
            else torch.as_tensor(command),
            "trajectory": None if trajectory is None else read_array(trajectory, "trajectory"),
            "layout": None if layout is None else read_array(layout, "layout"),
        }
        if clips is not None:
            clips = read_array(clips, "voxels")
            clips = clips.expand(num_samples, *clips.shape[-4:])
        size, labels, seeds = batch_size or num_samples, [], []
        for start in self.track(range(0, num_samples, size), "generating"):
            rows = slice(start, min(start + size, num_samples))
            count, given = rows.stop - start, None if clips is None else clips[rows]
            options: dict[str, Any] = {
                name: value[rows]
                if isinstance(value, Tensor) and value.dim() > _SHARED_DIMS[name] else value
                for name, value in conditions.items()
            }  # fmt: skip
            batch_seed = None if seed is None else seed + start
            options |= {"guidance_scale": guidance_scale, "seed": batch_seed}
            if region is not None:
                drawn = self.inpaint(given, torch.as_tensor(region), schedule=schedule, **options)
            elif num_windows > 1 or given is not None:
                drawn = self.generate_long(num_windows, count, overlap, start=given, **options)
            else:
                drawn = self.generate(count, **options)
            labels.append(drawn.cpu())
            seeds += [batch_seed] * count
        return GeneratedClips(torch.cat(labels), seeds)

    def preprocess(self, count: int, conditions: Mapping[str, Any]) -> dict[str, Tensor]:
        """Conditions of B samples on the device; see :meth:`generate`.

        Args:
            count: Samples B.
            conditions: By name, each one for all samples or one a sample; None is left out.
        """
        prepared = {}
        for name, value in conditions.items():
            if value is None:
                continue
            check_choice("condition", name, self.model.denoiser.conditions)
            if name == "command" and isinstance(value, str):
                if value not in COMMANDS:
                    raise ValueError(f"commands: expected some of {COMMANDS}, got {value!r}")
                value = COMMANDS.index(value)
            value = torch.as_tensor(value).to(self.device)
            if value.dim() == _SHARED_DIMS[name]:
                value = value.expand(count, *value.shape)
            if len(value) != count:
                raise ValueError(f"condition '{name}': expected {count} samples, got {len(value)}")
            if name == "command" and not bool(((value >= 0) & (value < len(COMMANDS))).all()):
                raise ValueError(
                    f"commands: expected 0..{len(COMMANDS) - 1} {COMMANDS}, got {value}"
                )
            prepared[name] = value.float() if name != "command" else value.long()
        return prepared

    @torch.no_grad()
    def forward(
        self,
        count: int,
        conditions: dict[str, Tensor],
        seed: int | None = None,
        guidance_scale: float | None = None,
    ) -> Tensor:
        """Rollouts of B samples; arguments as :meth:`preprocess` gives them."""
        return self.model.sample_rollouts(
            count, conditions, self._generator(seed), guidance_scale=guidance_scale
        )

    @torch.no_grad()
    def postprocess(self, rollouts: Tensor) -> Tensor:
        """Labels uint8 ``(B, T, X, Y, Z)`` of rollouts, on their device."""
        return self.model.decode_rollouts(rollouts)

    def visualize(self, result: GeneratedClips) -> list[np.ndarray]:
        """Each frame of each clip from above."""
        return [render_birds_eye(frame) for clip in result.labels.numpy() for frame in clip]

    def _generator(self, seed: int | None) -> torch.Generator | None:
        if seed is None:
            return None
        return torch.Generator(device=self.device).manual_seed(seed)

    def _encode(self, voxels: Tensor) -> Tensor:
        return to_rollout(self.model.encode_clips(voxels.to(self.device)))

    @torch.no_grad()
    def generate(
        self,
        num_samples: int = 1,
        command: int | str | Sequence[int] | None = None,
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
        hexplane = None if previous is None else self.model.standardize(self._encode(previous))
        conditions = self.preprocess(
            num_samples,
            {"command": command, "trajectory": trajectory, "layout": layout, "hexplane": hexplane},
        )
        return self.postprocess(self.forward(num_samples, conditions, seed, guidance_scale))

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
                f"overlap: expected {trained}, the frames that windows of the training share "
                f"(predecessor_overlap), got {overlap}"
            )
        if not 0 <= overlap < frames or overlap % reduction:
            raise ValueError(
                f"overlap: expected a multiple of {reduction} below {frames}, got {overlap}"
            )
        clips = [] if start is None else [start.to(self.device)]
        rollout = None if start is None else self._encode(start)
        uses_previous = "hexplane" in self.model.denoiser.conditions
        for window in range(num_windows):
            first = window * (frames - overlap)
            window_seed = None if seed is None else seed + window
            conditions = self.preprocess(
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
            if overlap and clips and not trained:
                generator = self._generator(window_seed)
                rollout = self._sample_overlapping(
                    clips[-1], overlap, conditions, generator, guidance_scale
                )
            else:
                rollout = self.forward(num_samples, conditions, window_seed, guidance_scale)
            clip = self.postprocess(rollout)
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
                f"{name}: expected {first + frames} frames for the window from frame {first} on, "
                f"got {sequence.shape[axis]}"
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
        conditions = self.preprocess(
            len(voxels), {"command": command, "trajectory": trajectory, "layout": layout}
        )
        rollouts = self.model.inpaint_rollouts(
            known, mask, conditions, self._generator(seed), schedule, guidance_scale
        )
        return torch.where(region, self.postprocess(rollouts), voxels.to(torch.uint8))
