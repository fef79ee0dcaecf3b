"""Info files (format v2) of nuScenes from its raw tables."""

import os
from pathlib import Path

from rich.progress import track

from mmcity.datasets.io.info_pickle import save_info_pickle
from mmcity.datasets.io.nuscenes_tables import (
    DETECTION_CLASSES,
    NuScenesTables,
    make_infos,
    scene_splits,
)
from mmcity.utils.dependencies import DependencyError


def convert_nuscenes(
    root: str | os.PathLike,
    *,
    version: str = "v1.0-trainval",
    out_dir: str | os.PathLike | None = None,
    extra_tag: str = "nuscenes",
    max_sweeps: int = 10,
    check_files: bool = False,
) -> dict[Path, tuple[int, int]]:
    """Make the info files of nuScenes from its raw tables.

    They are ``<extra-tag>_infos_{train,val}.pkl``, or ``_test.pkl`` for ``v1.0-test``;
    ``scene_idx`` (the name of the scene, which Occ3D's folders are called by) is in them. The
    files hold plain data, and mmdet3d reads them, too.

    Args:
        root: Folder of nuScenes.
        version: Folder of the tables: ``v1.0-trainval``, ``v1.0-mini`` or ``v1.0-test``.
            Defaults to ``v1.0-trainval``.
        out_dir: Folder for the info files. Defaults to the root.
        extra_tag: Prefix of the info files. Defaults to ``nuscenes``.
        max_sweeps: Lidar sweeps listed before a key frame. Defaults to 10.
        check_files: Fail if an image or lidar file is missing. Defaults to False.

    Returns:
        Numbers of scenes and key frames, by file.

    Raises:
        NuScenesTableError: If a table is missing or damaged.
        FileNotFoundError: If files were checked and some are missing.
        DependencyError: If nuscenes-devkit, which lists the scenes of train and val, is needed
            and not installed.
    """
    root = Path(root)
    tables = NuScenesTables(root, version)
    scenes = {scene["name"]: scene for scene in tables.scenes()}
    metainfo = {
        "categories": {name: i for i, name in enumerate(DETECTION_CLASSES)},
        "dataset": "nuscenes",
        "version": version,
        "info_version": "1.1",
    }
    counts = {}
    for split, names in scene_splits(tables, _official_splits).items():
        infos = []
        for name in track(names, description=split):
            infos += make_infos(tables, scenes[name], max_sweeps)
        for number, info in enumerate(infos):
            info["sample_idx"] = number
        if check_files:
            _check_files(root, infos)
        path = Path(out_dir or root) / f"{extra_tag}_infos_{split}.pkl"
        save_info_pickle({"metainfo": metainfo, "data_list": infos}, path)
        counts[path] = (len(names), len(infos))
    return counts


def _official_splits() -> dict[str, list[str]]:
    """Scenes of train and val, as nuscenes-devkit lists them."""
    try:
        from nuscenes.utils.splits import create_splits_scenes
    except ImportError as error:
        raise DependencyError(
            "nuscenes-devkit: expected the package, which lists the scenes of train and val, "
            f"got '{error}': install requirements/det3d-nodeps.txt, or write splits.json "
            "({'train': [names], 'val': [names]}) beside the tables"
        ) from error
    return create_splits_scenes()


def _check_files(root: Path, infos: list[dict]) -> None:
    """Stop if a file that the infos name is not there."""
    missing = []
    for info in infos:
        paths = [Path("samples/LIDAR_TOP") / info["lidar_points"]["lidar_path"]]
        paths += [Path("samples") / c / image["img_path"] for c, image in info["images"].items()]
        paths += [Path(sweep["lidar_points"]["lidar_path"]) for sweep in info["lidar_sweeps"]]
        missing += [path for path in paths if not (root / path).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{root}: expected {len(missing)} more files, the first is {missing[0]}"
        )
