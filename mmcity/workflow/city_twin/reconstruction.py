"""The scene as anchors, as a mesh, and baked."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh

from mmcity.apis import SceneRenderer
from mmcity.apis.scenes import export_scene, extract_mesh
from mmcity.apis.scenes.scores import world_vertices
from mmcity.datasets import ColmapDataset
from mmcity.datasets.depth_scale import fit_scene_depths
from mmcity.engine.launch import test
from mmcity.evaluation.functional.point_clouds import f1_score
from mmcity.utils.fileio import read_json, visible, write_json
from mmcity.visualization import draw_results
from mmcity.workflow import STAGES, Finding, Stage, StageContext, cfg_options


@STAGES.register_module()
class Reconstruct(Stage):
    """Train a scene model (CityGS-X) on the posed images and the depth priors.

    Args:
        config: Training config.
        priors: ``streaming`` (of the geometry stage), ``given`` (``train/depths`` of the
            capture) or ``none``. Defaults to ``none``.
        cfg_options: Further values of the config.
    """

    needs = ("poses",)
    uses = ("images", "geometry")

    def __init__(self, config: str, priors: str = "none", cfg_options: dict | None = None) -> None:
        if priors not in ("streaming", "given", "none"):
            raise ValueError(f"priors: expected streaming, given or none, got {priors!r}")
        self.config, self.priors = config, priors
        self.cfg_options = dict(cfg_options or {})

    def values(self, context: StageContext) -> dict:
        """Values of the config that this chain sets."""
        values = {"data_root": context.artefact("poses", "scene"), **self.cfg_options}
        if self.priors == "none":
            values["train_dataloader.dataset.depth_dir"] = None
        else:
            values["train_dataloader.dataset.depth_dir"] = "train/depths"
        return values

    def run(self, context: StageContext) -> dict[str, Path]:
        """Trained ``checkpoint`` with its ``config``, and ``results`` on held-out views."""
        scene = context.artefact("poses", "scene")
        if self.priors != "none":
            priors = context.artefact("geometry", "priors") if self.priors == "streaming" else (
                context.artefact("images", "source") / "train" / "depths")  # fmt: skip
            link = scene / "train" / "depths"
            link.unlink(missing_ok=True)
            link.symlink_to(priors, target_is_directory=True)
            context.call(fit_scene_depths, scene)
        checkpoint = context.train(self.config, "train", self.values(context))
        results = context.folder / "results"
        shutil.rmtree(results, ignore_errors=True)
        context.call(
            test,
            self.config,
            checkpoint,
            work_dir=context.folder / "test",
            dump=results,
            out=context.folder / "test.json",
            cfg_options=cfg_options(self.values(context)),
        )
        sheets = context.call(draw_results, results, context.folder, max_rows=4)
        kept = context.folder / "checkpoint.pth"
        shutil.copyfile(checkpoint, kept)
        note = context.folder / "model.json"
        write_json(note, {"config": self.config, "values": self.values(context)}, default=str)
        made = {"checkpoint": kept, "model": note, "numbers": context.folder / "test.json"}
        if sheets:
            made["held-out views"] = sheets[0]
        return {**made, "results": results}

    def check(self, context: StageContext) -> list[Finding]:
        """PSNR, SSIM and depth error of held-out views."""
        numbers = read_json(context.artefact(context.name, "numbers"))
        against = "held-out photographs"
        findings = [
            Finding("PSNR", numbers["test/psnr"], "dB", against, (25.0, 18.0)),
            Finding("SSIM", numbers["test/ssim"], "", against, (0.8, 0.6)),
        ]
        truth = context.find("images", "truth")
        errors = []
        for file in visible(sorted(context.artefact(context.name, "results").glob("*.npz"))):
            if truth is None:
                break
            with np.load(file, allow_pickle=False) as data:
                depth, solid = data["pred_depth"], data["pred_alpha"] > 0.5
            exact = np.load(truth / "depths" / f"{file.stem}.npy")
            valid = (exact > 0) & solid
            errors.append(np.abs(depth - exact)[valid])
        if errors:
            median = float(np.median(np.concatenate(errors)))
            findings.append(Finding("median depth error", median, "m", "exact depth"))
        return findings


@STAGES.register_module()
@dataclass(eq=False)
class ExtractMesh(Stage):
    """Fuse rendered depth into a mesh.

    Args:
        voxel_size: World units. Defaults to 0.4.
        max_depth: World units. Defaults to 150.
        min_triangles: Smaller parts are dropped. Defaults to 200.
        neighbour_distance: World units to views that have to agree with the depth of a pixel.
            Defaults to None: every pixel counts.
        neighbour_angle: Largest angle to such views, degrees. Defaults to 60.
    """

    needs = ("reconstruction",)
    uses = ("images",)

    voxel_size: float = 0.4
    max_depth: float = 150.0
    min_triangles: int = 200
    neighbour_distance: float | None = None
    neighbour_angle: float = 60.0

    def run(self, context: StageContext) -> dict[str, Path]:
        """``mesh`` and its ``glb``."""
        model = read_json(context.artefact("reconstruction", "model"))
        target = context.folder / "mesh.glb"
        mesh = context.folder / "mesh.ply"
        agreement: dict[str, Any] = {}
        if self.neighbour_distance is not None:
            agreement = dict(
                use_depth_filter=True,
                max_dis=self.neighbour_distance,
                max_angle=self.neighbour_angle,
            )
        context.call(
            extract_mesh,
            model["config"],
            context.artefact("reconstruction", "checkpoint"),
            mesh,
            voxel_size=self.voxel_size,
            max_depth=self.max_depth,
            min_triangles=self.min_triangles,
            cfg_options={"data_root": model["values"]["data_root"]},
            **agreement,
        )
        context.call(export_scene, mesh, target)
        return {"mesh": mesh, "glb": target}

    def check(self, context: StageContext) -> list[Finding]:
        """Triangles, and F1 against the exact town."""
        path = context.artefact(context.name, "mesh")
        mesh = trimesh.load(path, process=False)
        findings = [Finding("triangles", float(len(mesh.faces)))]
        truth = context.find("images", "truth")
        if truth is not None:
            points = world_vertices(path, process=False)
            cloud = world_vertices(truth / "visible_points.ply")
            score = f1_score(points, cloud, 2 * self.voxel_size)
            against = f"visible surface, {2 * self.voxel_size:g} m"
            findings.append(Finding("mesh F1", score["f1"], "", against, (0.8, 0.5)))
        return findings


@STAGES.register_module()
class BakeScene(Stage):
    """The scene as plain Gaussians, and in the formats that browsers take.

    Args:
        up: Axis that points up. Defaults to ``z``.
        max_per_cell: Gaussians of a tile. Defaults to 20,000.
    """

    needs = ("reconstruction", "poses")

    def __init__(self, up: str = "z", max_per_cell: int = 20_000) -> None:
        self.up, self.max_per_cell = up, max_per_cell

    def run(self, context: StageContext) -> dict[str, Path]:
        """``scene`` of plain Gaussians, as ``spz`` and as ``tiles``."""
        model = read_json(context.artefact("reconstruction", "model"))
        scene = context.folder / "scene.ply"
        checkpoint = context.artefact("reconstruction", "checkpoint")
        context.call(export_scene, checkpoint, scene, config=model["config"])
        tiles = context.folder / "tiles"
        for target in (context.folder / "scene.spz", tiles / "tileset.json"):
            context.call(export_scene, scene, target, up=self.up, max_per_cell=self.max_per_cell)
        return {"scene": scene, "spz": context.folder / "scene.spz", "tiles": tiles}

    def check(self, context: StageContext) -> list[Finding]:
        """PSNR and size of the baked scene."""
        size = context.artefact(context.name, "spz").stat().st_size / 1e6
        renderer = SceneRenderer(checkpoint=context.artefact(context.name, "scene"))
        held = ColmapDataset(
            context.artefact("poses", "scene"), split="test", resize=dict(long_side=480),
            require_points=False,
        )  # fmt: skip
        held.express_in(renderer.frame)
        errors = []
        for row, view in enumerate(renderer.iterate(held.cameras)):
            photograph = torch.from_numpy(held.load(row)["img"]).permute(2, 0, 1).float() / 255
            errors.append(float((view["rgb"] - photograph).square().mean()))
        psnr = float(np.mean(-10 * np.log10(errors)))
        return [
            Finding("PSNR of the baked scene", psnr, "dB", "held-out photographs", (25.0, 18.0)),
            Finding("size as SPZ", size, "MB"),
        ]
