"""Generated continuations of the occupancy."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmcity.datasets.occupancy_labels import UNIFIED_CLASSES
from mmcity.engine.dynamiccity import export_checkpoint_rollouts
from mmcity.evaluation.functional.occupancy import count_occupancy
from mmcity.structures import (
    Gaussians,
    Sim3,
    VoxelGrid,
    read_gaussians,
    read_voxel_grid,
    write_voxel_grid,
)
from mmcity.structures.geometry import se3_inverse
from mmcity.structures.scene_frame import sidecar, write_frame
from mmcity.toytown import ToytownConfig
from mmcity.toytown.writers import write_formats
from mmcity.utils.cli import UserError
from mmcity.utils.fileio import read_json, write_json, write_npy
from mmcity.visualization import write_image, write_video
from mmcity.visualization.occupancy import compare_clips, render_birds_eye
from mmcity.workflow import STAGES, Finding, Stage, StageContext, cfg_options

from .common import toytown_world
from .occupancy import exact_labels, voxelize_gaussians

_ROAD = UNIFIED_CLASSES.index("road")


@STAGES.register_module()
@dataclass(eq=False)
class FutureModel(Stage):
    """A generator of street clips: given weights, or one trained on drives through toy towns.

    Args:
        vae_config, config: Of the autoencoder and of the diffusion model.
        vae_checkpoint, checkpoint: Weights. Default to None: train.
        towns: Drives to train on. Defaults to 4.
        frames: Of each drive. Defaults to 24.
        vae_options, cfg_options: Further values of the configs.
    """

    vae_config: str
    config: str
    vae_checkpoint: str | None = None
    checkpoint: str | None = None
    towns: int = 4
    frames: int = 24
    vae_options: dict = field(default_factory=dict)
    cfg_options: dict = field(default_factory=dict)

    def run(self, context: StageContext) -> dict[str, Path]:
        """Note ``model`` of the trained autoencoder and diffusion model."""
        vae, model = self.vae_checkpoint, self.checkpoint
        if vae is None or model is None:
            data = context.folder / "drives"
            context.call(
                write_formats,
                data,
                ToytownConfig(seed=500 + context.seed),
                ["carlasc"],
                options={"carlasc": {"num_scenes": self.towns, "num_frames": self.frames}},
            )
            vae_values = {"data_root": data / "carlasc" / "Cartesian", **self.vae_options}
            vae = str(context.train(self.vae_config, "vae", vae_values))
            rollouts = context.folder / "rollouts"
            context.call(
                export_checkpoint_rollouts,
                self.vae_config,
                vae,
                rollouts,
                splits=["train"],
                flips=[0, 2, 5, 7],
                cfg_options=cfg_options(vae_values),
            )
            values = {
                "data_root": rollouts,
                "model.vae.init_cfg.checkpoint": vae,
                **self.cfg_options,
            }
            model = str(context.train(self.config, "dit", values))
        note = context.folder / "model.json"
        write_json(
            note, dict(vae_config=self.vae_config, config=self.config, vae=vae, checkpoint=model)
        )
        return {"model": note}


def find_street(grid: VoxelGrid, length: float) -> tuple[np.ndarray, float]:
    """A straight way along the grid's axes with the most road under it.

    Args:
        grid: Unified labels.
        length: Of the way, metres.

    Returns:
        Start ``(3,)`` on the ground and heading in radians (0 is x).

    Raises:
        UserError: If there is no road.
    """
    road = (grid.labels == _ROAD).any(-1).float()  # (X, Y)
    cells = max(int(length / float(grid.voxel_size[0])), 1)
    best, start, heading = -1.0, (0, 0), 0.0
    for axis, angle in ((0, 0.0), (1, np.pi / 2)):
        rows = road if axis == 0 else road.T  # (along, across)
        span = min(cells, rows.shape[0])
        # Three cells to each side count too, so that the way keeps off the kerb.
        wide = torch.nn.functional.avg_pool1d(rows[:, None], 7, 1, 3)[:, 0]
        share = wide.unfold(0, span, 1).mean(-1)  # (places, across)
        value, flat = share.flatten().max(0)
        if float(value) > best:
            place, across = divmod(int(flat), share.shape[1])
            best, heading = float(value), angle
            start = (place, across) if axis == 0 else (across, place)
    if best <= 0:
        raise UserError("the occupancy has no road to drive on; give `start` and `heading`")
    layers = (grid.labels == _ROAD).nonzero()[:, 2].float()
    index = torch.tensor([start[0], start[1], float(layers.median())])
    return grid.index_to_world(index).numpy().astype(np.float64), heading


@STAGES.register_module()
@dataclass(eq=False)
class OccupancyFuture(Stage):
    """Drive a virtual car down a street of the twin and let the generator continue.

    Args:
        shape: Voxels of a frame, as the generator knows them. Defaults to (32, 32, 8).
        voxel_size: Defaults to (0.4, 0.4, 0.375), that of CarlaSC.
        frames: Of the given clip, and of each window. Defaults to 4.
        step: Metres between frames. Defaults to 0.6.
        below: Depth of the grid below the ground, metres. Defaults to 0.2.
        windows: Windows to generate. Defaults to 1.
        overlap: Frames that a window shares with the one before. Defaults to None: as many as
            the generator was trained with.
        start, heading: Of the way; None looks for a street.
    """

    needs = ("baked", "occupancy", "future_model")
    uses = ("images",)

    shape: tuple[int, int, int] = (32, 32, 8)
    voxel_size: tuple[float, float, float] = (0.4, 0.4, 0.375)
    frames: int = 4
    step: float = 0.6
    below: float = 0.2
    windows: int = 1
    overlap: int | None = None
    start: tuple[float, float, float] | None = None
    heading: float = 0.0
    min_density: float = 0.5

    def __post_init__(self) -> None:
        self.shape, self.voxel_size = tuple(self.shape), tuple(self.voxel_size)

    @property
    def low(self) -> tuple[float, float, float]:
        """Lower corner of a frame's grid about the car."""
        size = np.array(self.shape) * self.voxel_size
        return -float(size[0]) / 2, -float(size[1]) / 2, -self.below

    def poses(self, context: StageContext, count: int) -> np.ndarray:
        """``(count, 4, 4)`` poses of the car in the world."""
        start, heading = self.start, self.heading
        if start is None:
            grid = read_voxel_grid(context.artefact("occupancy", "occupancy"))[0]
            start, heading = find_street(grid, count * self.step)
        poses = np.tile(np.eye(4), (count, 1, 1))
        cos, sin = np.cos(heading), np.sin(heading)
        poses[:, :2, :2] = [[cos, -sin], [sin, cos]]
        way = np.arange(count)[:, None] * self.step * np.array([cos, sin, 0.0])
        poses[:, :3, 3] = np.asarray(start) + way
        return poses

    def run(self, context: StageContext) -> dict[str, Path]:
        """Generated ``future``, its ``film``, and ``exact`` labels where there are some."""
        from mmcity.apis import OccupancyGenerator
        from mmcity.engine.launch import load_config

        model = read_json(context.artefact("future_model", "model"))
        cfg = load_config(model["config"])
        if cfg.model.get("vae") is None:
            cfg.model.vae = load_config(model["vae_config"]).model
        generator = OccupancyGenerator(cfg, model["checkpoint"], model["vae"])
        overlap = self.overlap
        if overlap is None:
            overlap = generator.model.predecessor_overlap
        total = self.frames + self.windows * (self.frames - overlap)
        gaussians = read_gaussians(context.artefact("baked", "scene"))
        votes = torch.from_numpy(np.load(context.artefact("occupancy", "votes"))).float()
        poses = self.poses(context, total)
        given = torch.stack([self._frame(gaussians, votes, pose) for pose in poses[: self.frames]])[
            None
        ]
        future = generator.generate_long(
            self.windows, overlap=overlap, start=given, seed=context.seed
        ).cpu()
        clip = torch.cat([given.to(future), future], dim=1)[0]
        target = context.folder / "future.npz"
        grid = VoxelGrid(clip, origin=self.low, voxel_size=self.voxel_size)
        write_voxel_grid(target, grid, poses=poses)
        write_frame(sidecar(target), gaussians.frame)
        film, strip = context.folder / "future.gif", context.folder / "future.png"
        pictures = [render_birds_eye(frame.numpy().astype(np.uint8), scale=5) for frame in clip]
        write_video(film, pictures, fps=4)
        rows = {"twin, then generated": clip.numpy().astype(np.uint8)}
        made = {"future": target, "film": film, "above: twin and future, below: exact": strip}
        exact = self._exact(context, poses)
        if exact is not None:
            rows["exact"] = exact.numpy().astype(np.uint8)
            made["exact"] = context.folder / "exact.npy"
            write_npy(made["exact"], rows["exact"])
        write_image(strip, compare_clips(rows, scale=2))
        return made

    def _frame(self, gaussians: Gaussians, votes: Tensor, pose: np.ndarray) -> Tensor:
        to_car = Sim3.from_matrix(se3_inverse(torch.from_numpy(pose)))
        moved = Gaussians(
            gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities
        ).transform(to_car)
        grid = voxelize_gaussians(
            moved, votes, self.low, self.voxel_size, self.shape, self.min_density
        )
        return grid.labels

    def _exact(self, context: StageContext, poses: np.ndarray) -> Tensor | None:
        renderer = toytown_world(context)
        if renderer is None:
            return None
        return torch.stack(
            [exact_labels(renderer, p, self.low, self.voxel_size, self.shape) for p in poses]
        )

    def check(self, context: StageContext) -> list[Finding]:
        """Frames, and IoU with the exact town."""
        clip = read_voxel_grid(context.artefact(context.name, "future")).labels
        findings = [Finding("frames generated", float(len(clip) - self.frames))]
        counts = (clip != 0).flatten(1).sum(1).double()
        kept = 100 * float(counts[-1] / counts[: self.frames].mean().clamp_min(1))
        findings.append(
            Finding("voxels left in the last frame (less: it dissolves)", kept, "%",
                    "given frames", (60.0, 30.0))
        )  # fmt: skip
        file = context.find(context.name, "exact")
        if file is not None:
            exact = torch.from_numpy(np.load(file)).long()
            for what, part in (
                ("given", slice(0, self.frames)),
                ("generated", slice(self.frames, None)),
            ):
                counts = count_occupancy(clip[part], exact[part], len(UNIFIED_CLASSES), 0)
                against = "exact static town, all voxels"
                findings.append(
                    Finding(
                        f"occupancy IoU, {what} frames",
                        counts.binary_iou(),
                        "%",
                        against,
                        (50.0, 25.0),
                    )  # fmt: skip
                )
        return findings
