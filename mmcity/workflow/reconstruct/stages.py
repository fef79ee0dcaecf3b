"""Stages from pictures with poses to files that can be shown."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmcity.apis import GeometryPrior, StreamingReconstructor
from mmcity.apis.scenes import export_scene, extract_mesh, render_ortho
from mmcity.datasets.io.colmap_model import read_colmap_model
from mmcity.datasets.splits import says_split, write_held_out
from mmcity.engine.launch import test
from mmcity.utils.fileio import read_json
from mmcity.visualization import draw_results
from mmcity.workflow.chain import STAGES, Stage, StageContext, cfg_options
from mmcity.workflow.manifest import Finding

_SHOWN_VIEWS = 4


@STAGES.register_module()
@dataclass(eq=False)
class StreamPoses(Stage):
    """Poses and points of the streaming model, in the order of the pictures.

    Args:
        config: Config of the model.
        weights: Its checkpoint.
        test_every: Hold out every n-th picture; 0 holds out none. Defaults to 10.
        max_points: Of the sparse model. Defaults to 50,000.
    """

    needs = ("pictures",)

    config: str
    weights: str
    test_every: int = 10
    max_points: int = 50_000

    def run(self, context: StageContext) -> dict[str, Path]:
        """``scene`` of the pictures."""
        scene = context.folder / "scene"
        pictures = context.artefact("pictures", "pictures")
        options = dict(test_every=self.test_every, max_points=self.max_points, seed=context.seed)
        context.call(stream_poses, pictures, scene, self.config, self.weights, **options)
        return {"scene": scene}


def stream_poses(
    pictures: Path, scene: Path, config: str, weights: str, test_every: int, **options: Any
) -> None:
    """Write a COLMAP scene of the streaming model's poses; see :class:`StreamPoses`."""
    shutil.rmtree(scene, ignore_errors=True)
    scene.mkdir(parents=True)
    (scene / "images").symlink_to(pictures.resolve(), target_is_directory=True)
    reconstructor = StreamingReconstructor(config, weights, resize="eval")
    GeometryPrior(reconstructor).write(pictures, sparse_dir=scene / "sparse" / "0", **options)
    model = read_colmap_model(scene, with_features=False, with_points=False)
    names = sorted(image.name for image in model.images.values())
    write_held_out(scene, names, test_every)


@STAGES.register_module()
@dataclass(eq=False)
class TrainScene(Stage):
    """Train a scene for a time, and test it on pictures it has not seen.

    Without held-out pictures it is tested on a few of those it has learnt.

    Args:
        config: Training config.
        minutes: Time of the training, see :func:`~mmcity.engine.launch.train`. Defaults to None.
        max_iters: Iterations in place of a time. Defaults to None.
        cfg_options: Further values of the config.
    """

    needs = ("poses", "checks")

    config: str
    minutes: float | None = None
    max_iters: int | None = None
    cfg_options: dict[str, Any] = field(default_factory=dict)

    def run(self, context: StageContext) -> dict[str, Path]:
        """Trained ``scene`` and its ``config``, ``numbers`` and pictures of the test."""
        scene = context.artefact("poses", "scene")
        values = {"data_root": scene, **self.cfg_options}
        if not says_split(scene):
            for part in ("train", "test"):
                values[f"{part}_dataloader.dataset.split_by"] = "none"
            values["test_dataloader.dataset.split"] = "train"
            values["test_dataloader.dataset.indices"] = _SHOWN_VIEWS
        without_validation = {f"val_{part}": None for part in ("dataloader", "cfg", "evaluator")}
        checkpoint = context.train(
            self.config,
            values={**values, **without_validation},
            minutes=self.minutes,
            max_iters=self.max_iters,
        )
        config = checkpoint.parent / Path(self.config).name  # the run leaves a copy of its config
        numbers, views = context.call(
            test_and_draw, self.config, checkpoint, context.folder, cfg_options(values)
        )
        return {"scene": checkpoint, "config": config, "numbers": numbers, "views": views}

    def check(self, context: StageContext) -> list[Finding]:
        """Iterations, PSNR and SSIM."""
        numbers = read_json(context.artefact(context.name, "numbers"))
        held_out = says_split(context.artefact("poses", "scene"))
        kind = "held-out pictures" if held_out else "pictures it has learnt"
        against = f"{numbers['test/n_images']} {kind}"
        name = context.artefact(context.name, "scene").name
        return [
            Finding("iterations", float(name.removeprefix("iter_").removesuffix(".pth"))),
            Finding("PSNR", numbers["test/psnr"], "dB", against, (25.0, 18.0)),
            Finding("SSIM", numbers["test/ssim"], "", against, (0.8, 0.6)),
        ]


def test_and_draw(
    config: str, checkpoint: Path, folder: Path, options: Mapping[str, Any]
) -> tuple[Path, Path]:
    """Test a scene, and draw the first views; numbers and picture."""
    results, numbers = folder / "results", folder / "test.json"
    shutil.rmtree(results, ignore_errors=True)
    files = dict(work_dir=folder / "test", dump=results, out=numbers)
    test(config, checkpoint, cfg_options=options, **files)
    return numbers, draw_results(results, folder, max_rows=_SHOWN_VIEWS)[0]


@STAGES.register_module()
class FinishScene(Stage):
    """The scene in the formats of viewers, and a picture of it.

    Args:
        out: Folder for ``scene.ply``, ``scene.spz``, ``scene.html`` and ``views.png``.
    """

    needs = ("training",)

    def __init__(self, out: str) -> None:
        self.out = Path(out)

    def run(self, context: StageContext) -> dict[str, Path]:
        """``scene``, ``spz`` and ``page`` of the Gaussians, and ``views``."""
        scene, spz, page = (self.out / f"scene.{suffix}" for suffix in ("ply", "spz", "html"))
        checkpoint, config = (context.artefact("training", name) for name in ("scene", "config"))
        context.call(export_to_all, checkpoint, config, (scene, spz))
        context.call(export_scene, checkpoint, page, config=config, title=self.out.resolve().name)
        views = self.out / "views.png"
        shutil.copyfile(context.artefact("training", "views"), views)
        return {"scene": scene, "spz": spz, "page": page, "views": views}

    def check(self, context: StageContext) -> list[Finding]:
        """Size of the scene."""
        size = os.path.getsize(context.artefact(context.name, "spz")) / 1e6
        return [Finding("size as SPZ", size, "MB")]


def export_to_all(checkpoint: Path, config: Path, targets: Sequence[Path]) -> None:
    """Export a checkpoint to the first target, and that to the others."""
    export_scene(checkpoint, targets[0], config=config)
    for target in targets[1:]:
        export_scene(targets[0], target)


@STAGES.register_module()
class MeshScene(Stage):
    """The surface of the scene as ``mesh.ply`` and ``mesh.glb``.

    Args:
        out: Folder of the files.
        voxel_size: World units. Defaults to None: a 150th of the usual distance between cameras
            and what they see.
    """

    needs = ("training",)

    def __init__(self, out: str, voxel_size: float | None = None) -> None:
        self.out, self.voxel_size = Path(out), voxel_size

    def run(self, context: StageContext) -> dict[str, Path]:
        """``mesh`` and its ``glb``."""
        mesh, glb = self.out / "mesh.ply", self.out / "mesh.glb"
        context.call(
            extract_mesh,
            context.artefact("training", "config"),
            context.artefact("training", "scene"),
            mesh,
            voxel_size=self.voxel_size,
            min_triangles=200,
        )
        context.call(export_scene, mesh, glb)
        return {"mesh": mesh, "glb": glb}


@STAGES.register_module()
class OrthoScene(Stage):
    """The scene straight from above, as ``ortho.tif``, with its heights.

    Args:
        out: Folder of the files.
    """

    needs = ("scene",)

    def __init__(self, out: str) -> None:
        self.out = Path(out)

    def run(self, context: StageContext) -> dict[str, Path]:
        """``ortho`` and ``heights``."""
        made = context.call(
            render_ortho, context.artefact("scene", "scene"), self.out / "ortho.tif"
        )
        return {"ortho": made.path, "heights": made.heights}
