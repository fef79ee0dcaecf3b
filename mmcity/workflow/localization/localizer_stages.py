"""Stages from a folder of pictures to a localiser; see :func:`make_localizer`."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmcity.apis.localization.localizer_file import write_localizer_file
from mmcity.datasets.alignment import align_scene
from mmcity.datasets.colmap import find_image_dir
from mmcity.datasets.converters import is_film, map_pictures
from mmcity.datasets.io.colmap_model import find_colmap_model, read_colmap_model
from mmcity.datasets.splits import write_held_out
from mmcity.engine.rap.scene_checks import check_localization_scene
from mmcity.structures import read_frame, write_frame
from mmcity.structures.scene_frame import FRAME_FILE
from mmcity.utils.cli import UserError
from mmcity.utils.fileio import read_json, visible, write_json
from mmcity.workflow.chain import STAGES, Stage, StageContext
from mmcity.workflow.manifest import Finding


@STAGES.register_module()
class ScenePoses(Stage):
    """A COLMAP scene from a folder of pictures, or from one that has poses.

    Args:
        images: Folder of pictures or of a COLMAP scene, or a film. Defaults to None: the pictures
            of the stage of this name.
        model: Folder of the COLMAP model, if it does not lie in the scene.
        test_every: Hold out every n-th picture, where the scene does not say which.
        positions: CSV of camera positions, see
            :func:`~mmcity.datasets.alignment.align_scene`.
        mapping: Further arguments of :func:`~mmcity.datasets.converters.map_pictures`.
    """

    def __init__(
        self,
        images: str | None = None,
        model: str | None = None,
        test_every: int = 10,
        positions: str | None = None,
        mapping: Mapping[str, Any] | None = None,
    ) -> None:
        self.images = None if images is None else Path(images)
        self.model = None if model is None else Path(model)
        self.needs = ("pictures",) if images is None else ()
        self.test_every, self.positions, self.mapping = test_every, positions, dict(mapping or {})

    def run(self, context: StageContext) -> dict[str, Path]:
        """``scene``, and its ``alignment`` where positions are given."""
        if self.images is None:
            self.images = context.artefact("pictures", "pictures")
        if not (self.images.is_dir() or is_film(self.images)):
            raise UserError(f"{self.images}: expected a folder of pictures or a film, found none")
        given = self._given_model()
        scene = self._map(context) if given is None else self._lay_out(context, given)
        made = {"scene": scene}
        if self.positions is not None:
            made["alignment"] = context.folder / "alignment.json"
            context.call(align_scene, scene, self.positions, out=made["alignment"])
            write_frame(scene / FRAME_FILE, read_frame(context.folder))  # which the map takes over
        return made

    def _given_model(self) -> Path | None:
        if self.model is not None:
            return find_colmap_model(self.model)
        if is_film(self.images):
            return None
        try:
            return find_colmap_model(self.images)
        except FileNotFoundError:
            return None

    def _map(self, context: StageContext) -> Path:
        scene = context.folder / "scene"
        if not scene.is_dir():  # else made before a kill, whole
            context.call(
                map_pictures,
                self.images,
                scene,
                **{"test_every": self.test_every, "seed": context.seed, **self.mapping},
            )
        return scene

    def _lay_out(self, context: StageContext, model: Path) -> Path:
        """Link pictures and model, so that the folder of the user is left alone."""
        names = sorted(
            image.name
            for image in read_colmap_model(
                model, with_features=False, with_points=False
            ).images.values()
        )
        try:
            pictures = find_image_dir(self.images, names)
        except FileNotFoundError:
            pictures = find_image_dir(self.images, names, ".")
        scene = context.folder / "scene"
        (scene / "sparse").mkdir(parents=True, exist_ok=True)
        lists = [
            self.images / "list_test.txt",
            *visible(self.images.glob("*.tsv")),
            self.images / "val",
        ]
        links = [(scene / "images", pictures), (scene / "sparse" / "0", model)]
        links += [(scene / path.name, path) for path in lists if path.exists()]
        for link, target in links:
            link.unlink(missing_ok=True)
            link.symlink_to(target.resolve())
        if len(links) == 2:
            write_held_out(scene, names, self.test_every)
        return scene

    def check(self, context: StageContext) -> list[Finding]:
        """Number of posed images."""
        model = find_colmap_model(context.artefact(context.name, "scene"))
        count = len(read_colmap_model(model, with_features=False, with_points=False).images)
        return [Finding("posed images", float(count))]


@STAGES.register_module()
class CheckScene(Stage):
    """Checks before training; errors end the chain.

    Args:
        regression: Whether a pose network will be trained. Defaults to True.
        metric: Scene units are metres. Defaults to False.
        unneeded: Checks whose warnings say nothing to those for whom the scene is made. Defaults
            to none.
    """

    needs = ("poses",)

    def __init__(
        self, regression: bool = True, metric: bool = False, unneeded: tuple[str, ...] = ()
    ) -> None:
        self.regression, self.metric, self.unneeded = regression, metric, tuple(unneeded)

    def run(self, context: StageContext) -> dict[str, Path]:
        """``scale`` of the scene, with what the checks say."""
        unit_scale = 1.0 if self.metric else None
        alignment = context.find("poses", "alignment")
        if alignment is not None:
            unit_scale = float(read_json(alignment)["scale"])
        checks = check_localization_scene(
            context.artefact("poses", "scene"), self.regression, unit_scale
        )
        checks = [c for c in checks if c.level != "warning" or c.what not in self.unneeded]
        for check in checks:
            print(f"  {check}", flush=True)
        content = {
            "unit_scale": unit_scale or 1.0,
            "metric": unit_scale is not None,
            "checks": [asdict(check) for check in checks],
        }
        path = context.folder / "checks.json"
        write_json(path, content)
        errors = [f"{check.what}: {check.message}" for check in checks if check.level == "error"]
        if errors:
            raise UserError("the scene cannot be trained on\n" + "\n".join(errors))
        return {"scale": path}

    def check(self, context: StageContext) -> list[Finding]:
        """Number of warnings, and the scale."""
        content = read_json(context.artefact(context.name, "scale"))
        doubts = sum(row["level"] == "warning" for row in content["checks"])
        return [Finding("warnings", float(doubts)), Finding("scale", content["unit_scale"], "m")][
            : 1 + content["metric"]
        ]


@STAGES.register_module()
class TrainMap(Stage):
    """Train the Gaussian map.

    Args:
        config: Training config.
        cfg_options: Further values of the config.
    """

    needs = ("poses", "checks")

    def __init__(self, config: str, cfg_options: dict[str, Any] | None = None) -> None:
        self.config, self.cfg_options = config, dict(cfg_options or {})

    def run(self, context: StageContext) -> dict[str, Path]:
        """Trained ``scene`` and its ``config``."""
        values = {"data_root": context.artefact("poses", "scene"), **self.cfg_options}
        checkpoint = context.train(self.config, values=values)
        # The run leaves a copy of its config with all options.
        return {"scene": checkpoint, "config": checkpoint.parent / Path(self.config).name}


@STAGES.register_module()
class WriteLocalizer(Stage):
    """Name all parts in ``localizer.json`` of the work folder.

    Args:
        long_side: px to which larger pictures are reduced. Defaults to 480.
    """

    needs = ("poses", "checks", "map")
    uses = ("pose_network",)

    def __init__(self, long_side: int = 480) -> None:
        self.long_side = long_side

    def run(self, context: StageContext) -> dict[str, Path]:
        """The ``localizer`` file."""
        scale = read_json(context.artefact("checks", "scale"))
        network: dict[str, str] = {}
        model = context.find("pose_network", "model")
        if model is not None:
            network = read_json(model)
        path = context.manifest.work_dir / "localizer.json"
        write_localizer_file(
            path,
            scene=os.path.abspath(context.artefact("poses", "scene")),
            map=context.artefact("map", "scene"),
            map_config=context.artefact("map", "config"),
            alignment=context.find("poses", "alignment"),
            long_side=self.long_side,
            unit_scale=scale["unit_scale"],
            not_metric=not scale["metric"],
            **network,
        )
        return {"localizer": path}
