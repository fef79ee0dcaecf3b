"""From a folder of pictures to a localiser."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmcity.engine.launch import load_config
from mmcity.utils.cli import UserError
from mmcity.utils.config_index import config_file
from mmcity.utils.setup_env import register_all_modules
from mmcity.workflow.chain import Chain

_CONFIGS = Path("configs") / "rap"


def make_localizer(
    images: str | os.PathLike,
    out: str | os.PathLike,
    *,
    model: str | os.PathLike | None = None,
    test_every: int = 10,
    positions: str | os.PathLike | None = None,
    metric: bool = False,
    mapping: Mapping[str, Any] | None = None,
    map_config: str | os.PathLike = _CONFIGS / "rap_map_colmap_cpu.py",
    map_options: Mapping[str, Any] | None = None,
    config: str | os.PathLike = _CONFIGS / "rap_colmap_cpu.py",
    network_options: Mapping[str, Any] | None = None,
    network: bool = True,
    long_side: int = 480,
    starts: int = 3,
    seed: int = 0,
    force: Iterable[str] = (),
    until: str | None = None,
) -> Path:
    """Poses, checks, map, pose network, localised held-out pictures, and ``localizer.json``.

    A finished step (``poses``, ``checks``, ``map``, ``pose_network``, ``localization``,
    ``localizer``) is not run again; a killed one goes on.

    Args:
        images: Folder of pictures or of a COLMAP scene, or a film.
        out: Folder for everything, a report included.
        model: COLMAP model of the pictures. Defaults to None: look for one, else make one.
        test_every: Every n-th picture is held out as query, where the scene names none.
            Defaults to 10.
        positions: CSV of GPS or metric positions of cameras, for metres. Defaults to None.
        metric: Scene units are metres already. Defaults to False.
        mapping: Arguments of structure from motion, those of
            :func:`~mmcity.datasets.converters.map_pictures`. Defaults to None.
        map_config: Config of the map, a path from here or from the root of the toolbox or a
            name that ``mmcity list`` prints. Defaults to ``rap_map_colmap_cpu.py``.
        map_options: Values of it. Defaults to None.
        config: Config of the pose network, likewise. Defaults to ``rap_colmap_cpu.py``.
        network_options: Values of it. Defaults to None.
        network: Train a pose network; without, queries start from mapped images that look
            alike, and cameras may be mixed. Defaults to True.
        long_side: px to which larger pictures are reduced. Defaults to 480.
        starts: Mapped images to start from. Defaults to 3.
        seed: Of all trainings. Defaults to 0.
        force: Steps to run anew. Defaults to none.
        until: Step to stop after. Defaults to None.

    Returns:
        ``localizer.json``, for :func:`~mmcity.apis.load_localizer` and
        :func:`~mmcity.apis.localize_queries`; written by the last step.

    Raises:
        UserError: If no picture would be mapped, or a step fails.
    """
    if test_every < 2:
        raise UserError(
            f"test_every: expected at least 2, got {test_every}: without queries nothing can be "
            "measured"
        )
    config, map_config = str(config_file(config)), str(config_file(map_config))
    shared = {"randomness.seed": seed}
    preprocessor = load_config(config, network_options).model.get("data_preprocessor", {})
    takes_any_camera = not network or preprocessor.get("normalize_focal", False)
    stages: dict[str, dict[str, Any]] = {
        "poses": dict(
            type="ScenePoses",
            images=_full(images),
            model=_full(model),
            test_every=test_every,
            positions=_full(positions),
            mapping=dict(mapping or {}),
        ),
        "checks": dict(type="CheckScene", regression=not takes_any_camera, metric=metric),
        "map": dict(
            type="TrainMap", config=map_config, cfg_options={**shared, **(map_options or {})}
        ),
        "pose_network": dict(
            type="PoseNetwork",
            config=config,
            map_option="map_path",
            map_stage="map",
            cfg_options={**shared, **(network_options or {})},
        ),
        "localization": dict(
            type="LocaliseQueries", long_side=long_side, starts=starts, map_stage="map"
        ),
        "localizer": dict(type="WriteLocalizer", long_side=long_side),
    }
    if not network:
        del stages["pose_network"]
    register_all_modules()
    Chain(stages, out, seed).run_and_report(
        f"Localiser: {Path(out).resolve().name}", force, until=until
    )
    return Path(out) / "localizer.json"


def _full(path: str | os.PathLike | None) -> str | None:
    return None if path is None else str(Path(path).resolve())
