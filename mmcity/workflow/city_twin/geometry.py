"""Geometry of the streaming network: poses, depth and points from the images alone."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from mmcity.evaluation.functional.camera_poses import trajectory_errors
from mmcity.evaluation.functional.depth import average_depth_metrics, evaluate_depth
from mmcity.structures import Trajectory
from mmcity.utils.fileio import atomic_path, read_json, write_json, write_npy, write_text
from mmcity.utils.images import list_images
from mmcity.utils.picture_files import read_image
from mmcity.visualization import colorize_depth, contact_sheet, write_image
from mmcity.workflow import STAGES, Finding, Stage, StageContext, stem_to_pose, true_poses


@STAGES.register_module()
@dataclass(eq=False)
class StreamModel(Stage):
    """A streaming network: given weights, or a small one trained on surveys of other towns.

    Args:
        config: Of the network; for training, one whose data lie in ``data_root`` in the
            layout of toy-town videos.
        checkpoint: Weights. Defaults to None: train.
        towns: Towns to train on. Defaults to 6.
        num_images: Of each survey. Defaults to 24.
        image_size: Width and height of these. Defaults to 112x84.
        cfg_options: Further values of the config.
    """

    config: str
    checkpoint: str | None = None
    towns: int = 6
    num_images: int = 24
    image_size: tuple[int, int] = (112, 84)
    cfg_options: dict = field(default_factory=dict)

    def run(self, context: StageContext) -> dict[str, Path]:
        """Note ``model`` of the trained network."""
        note = context.folder / "model.json"
        checkpoint = self.checkpoint
        if checkpoint is None:
            data = context.folder / "surveys"
            for number in range(self.towns):
                self._survey(data / f"town{number:02d}", 1000 + number + context.seed)
            names = sorted(folder.name for folder in data.iterdir() if folder.is_dir())
            write_text(data / "train.txt", "\n".join(names[1:]) + "\n")
            write_text(data / "val.txt", names[0] + "\n")
            checkpoint = str(
                context.train(self.config, "train", {"data_root": data, **self.cfg_options})
            )
        write_json(note, {"config": self.config, "checkpoint": checkpoint})
        return {"model": note}

    def _survey(self, folder: Path, seed: int) -> None:
        """One aerial survey in the layout of toy-town videos; a finished one is left alone."""
        from mmcity.toytown import Renderer, ToytownConfig, build_world
        from mmcity.toytown.motion.flight import survey_flight

        if (folder / "poses.txt").is_file():
            return
        renderer = Renderer(build_world(ToytownConfig(seed=seed, blocks=(1, 1), supersampling=1)))
        rng = np.random.default_rng(seed)
        views = survey_flight(renderer.world, self.num_images, *self.image_size, rng)
        for row, view in enumerate(views):
            frame = renderer.render(view)
            write_image(folder / "rgb" / f"{row:06d}.png", frame.rgb)
            write_npy(folder / "depth" / f"{row:06d}.npy", frame.depth)
        with atomic_path(folder / "intrinsics.txt") as temporary:
            np.savetxt(temporary, views[0].K)
        with atomic_path(folder / "poses.txt") as temporary:
            np.savetxt(temporary, np.stack([view.cam_to_world.ravel() for view in views]))


@STAGES.register_module()
class StreamingGeometry(Stage):
    """Poses, inverse depth and points of the images, in their order, in one pass.

    Args:
        policy: What the network's cache keeps. Defaults to the config's.
        max_points: Of the sparse model. Defaults to 20,000.
    """

    needs = ("images", "stream_model")

    def __init__(self, policy: str | None = None, max_points: int = 20_000) -> None:
        self.policy, self.max_points = policy, max_points

    def run(self, context: StageContext) -> dict[str, Path]:
        """``priors``, ``sparse`` model and ``depths`` of the stream."""
        from mmcity.apis import GeometryPrior, StreamingReconstructor

        model = read_json(context.artefact("stream_model", "model"))
        reconstructor = StreamingReconstructor(
            model["config"], model["checkpoint"], policy=self.policy, resize="eval"
        )
        priors = context.folder / "priors"
        files = GeometryPrior(reconstructor).write(
            context.artefact("images", "images"),
            depth_dir=priors,
            sparse_dir=context.folder / "sparse",
            max_points=self.max_points,
            seed=context.seed,
        )
        note = context.folder / "priors.json"
        write_json(note, {"inverse_depth_unit": files.inverse_depth_unit})
        return {
            "priors": priors,
            "sparse": files.sparse,
            "unit": note,
            "depths": self._sheet(files.depths, context.folder / "depths.jpg"),
        }

    @staticmethod
    def _sheet(files: list[Path], target: Path) -> Path:
        pictures = []
        for file in files[:: max(len(files) // 4, 1)][:4]:
            inverse = read_image(file, None).astype(np.float64)
            pictures.append(colorize_depth(1 / np.maximum(inverse, 1)))
        write_image(target, contact_sheet([pictures]))
        return target

    def check(self, context: StageContext) -> list[Finding]:
        """Errors of trajectory and depth against the exact town."""
        truth = true_poses(context)
        if truth is None:
            return []
        found = stem_to_pose(context.artefact(context.name, "sparse"))
        stems = sorted(set(found) & set(truth))
        errors = trajectory_errors(
            Trajectory(torch.stack([found[s] for s in stems])),
            Trajectory(torch.stack([truth[s] for s in stems])),
        )
        unit = read_json(context.artefact(context.name, "unit"))["inverse_depth_unit"]
        depths = []
        for file in list_images(context.artefact(context.name, "priors")):
            inverse = torch.from_numpy(read_image(file, None).astype(np.float64)) * unit
            exact = np.load(context.artefact("images", "truth") / "depths" / f"{file.stem}.npy")
            depths.append(
                evaluate_depth(1 / inverse.clamp_min(unit), torch.from_numpy(exact), "median")
            )
        mean = average_depth_metrics(depths)
        spread = torch.stack([truth[s][:3, 3] for s in stems]).std(0).norm()
        return [
            Finding(
                "trajectory error (ATE, Sim3)",
                errors["ate"],
                "m",
                "exact poses",
                (0.05 * float(spread), 0.25 * float(spread)),
            ),  # fmt: skip
            Finding("extent of the flight (std of positions)", float(spread), "m"),
            Finding(
                "relative depth error, scale per image",
                mean["Abs Rel"],
                "",
                "exact depth",
                (0.05, 0.2),
            ),
        ]
