"""Stages that localise pictures in a map."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmcity.apis import localize_queries
from mmcity.datasets.io.colmap_model import find_colmap_model, read_colmap_model
from mmcity.engine.launch import find_hook, load_config
from mmcity.evaluation.functional.localization import localization_errors
from mmcity.utils.cli import UserError, find_root
from mmcity.utils.fileio import read_json, write_json
from mmcity.utils.images import list_images
from mmcity.utils.picture_names import without_suffix
from mmcity.workflow.chain import STAGES, Stage, StageContext
from mmcity.workflow.manifest import Finding


def stem_to_pose(model_dir: Path) -> dict[str, torch.Tensor]:
    """``(4, 4)`` float64 camera poses of a COLMAP model by relative name without suffix."""
    model = read_colmap_model(model_dir, with_features=False, with_points=False)
    return {
        without_suffix(image.name): torch.from_numpy(np.linalg.inv(image.viewmat))
        for image in model.images.values()
    }


def true_poses(context: StageContext) -> dict[str, torch.Tensor] | None:
    """Exact poses by image stem, where the images come with them."""
    model = context.find("images", "true_model")
    return None if model is None else stem_to_pose(model)


def _scale(context: StageContext) -> tuple[float, str]:
    """Metres per scene unit and ``m``, or 1 and ``units`` where that is not known."""
    checked = context.find("checks", "scale")
    if checked is None:  # scenes with exact poses are metric
        return 1.0, "units" if context.find("images", "true_model") is None else "m"
    content = read_json(checked)
    return content["unit_scale"], "m" if content["metric"] else "units"


@STAGES.register_module()
@dataclass(eq=False)
class PoseNetwork(Stage):
    """Train a pose network (RAP) on views that are rendered from the map.

    Args:
        config: Training config.
        map_option: Name of the config's value that takes the map. Defaults to None: ``map`` of
            its ``ViewSynthesisHook``.
        cfg_options: Further values of the config.
        map_stage: Stage that made the map. Defaults to ``baked``.
    """

    needs = ("poses", "baked")

    config: str
    map_option: str | None = None
    cfg_options: dict = field(default_factory=dict)
    map_stage: str = "baked"

    def __post_init__(self) -> None:
        self.needs = ("poses", self.map_stage)

    def run(self, context: StageContext) -> dict[str, Path]:
        """Note ``model`` of the trained network."""
        place = self.map_option
        if place is None:
            hook = find_hook(load_config(find_root() / self.config), "ViewSynthesisHook")
            if hook is None:
                raise UserError(f"{self.config}: expected a ViewSynthesisHook, found none")
            place = f"{hook}.map"
        values = {
            "data_root": context.artefact("poses", "scene"),
            place: context.artefact(self.map_stage, "scene"),
        }
        map_config = context.find(self.map_stage, "config")
        if map_config is not None:
            values[f"{place.removesuffix('_path')}_config"] = map_config
        checkpoint = context.train(self.config, values={**values, **self.cfg_options})
        # The run leaves a copy of its config with all options.
        config = checkpoint.parent / Path(self.config).name
        note = context.folder / "model.json"
        write_json(note, {"config": str(config), "checkpoint": str(checkpoint)})
        return {"model": note}


@STAGES.register_module()
class LocaliseQueries(Stage):
    """Localise the held-out pictures in the map.

    Args:
        long_side: px to which larger pictures are reduced. Defaults to 480.
        starts: First poses from mapped images that look alike. Defaults to 3.
        map_stage: Stage that made the map. Defaults to ``baked``.
    """

    needs = ("poses", "baked")
    uses = ("images", "pose_network", "checks")

    def __init__(self, long_side: int = 480, starts: int = 3, map_stage: str = "baked") -> None:
        self.long_side, self.starts, self.map_stage = long_side, starts, map_stage
        self.needs = ("poses", map_stage)

    def run(self, context: StageContext) -> dict[str, Path]:
        """``results`` of the queries."""
        queries = context.folder / "queries"
        options: dict[str, Any] = {}
        model = context.find("pose_network", "model")
        if model is not None:
            content = read_json(model)
            options = {name: content[name] for name in ("config", "checkpoint")}
        if context.find("checks", "scale") is not None:
            unit_scale, unit = _scale(context)
            options |= {"unit_scale": unit_scale} if unit == "m" else {"not_metric": True}
        context.call(
            localize_queries,
            context.artefact("poses", "scene"),
            queries,
            map=context.artefact(self.map_stage, "scene"),
            map_config=context.find(self.map_stage, "config"),
            alignment=context.find("poses", "alignment"),
            long_side=self.long_side,
            starts=self.starts,
            **options,
        )
        made = {"results": queries / "results.json"}
        drawn = queries / "pictures"
        pictures = list_images(drawn, recursive=True) if drawn.is_dir() else []
        if pictures:
            made["query beside render"] = pictures[0]
        return made

    def check(self, context: StageContext) -> list[Finding]:
        """Share of localised queries, and their errors."""
        rows = read_json(context.artefact(context.name, "results"))["queries"]
        found = {
            without_suffix(row["name"]): np.array(row["cam_to_world"])
            for row in rows
            if row["status"] != "failed" and row.get("cam_to_world") is not None
        }
        findings = [
            Finding(
                "localised queries",
                100 * len(found) / max(len(rows), 1),
                "%",
                f"{len(rows)} queries",
                (90.0, 50.0),
            )
        ]
        truth, against = true_poses(context), "exact poses"
        if truth is None:
            truth = stem_to_pose(find_colmap_model(context.artefact("poses", "scene")))
            against = "mapped poses"
        stems = sorted(set(found) & set(truth))
        if stems:
            translation, rotation = localization_errors(
                torch.from_numpy(np.stack([found[s] for s in stems])),
                torch.stack([truth[s] for s in stems]),
            )
            unit_scale, unit = _scale(context)
            position = unit_scale * float(translation.median())
            findings += [
                Finding(
                    "median position error",
                    position,
                    unit,
                    against,
                    (0.25, 5.0) if unit == "m" else None,
                ),
                Finding(
                    "median rotation error", float(rotation.median()), "deg", against, (2.0, 10.0)
                ),
            ]
        return findings
