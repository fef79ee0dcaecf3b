"""Scene names in nuScenes info files that were made elsewhere."""

import os
from pathlib import Path

from rich.progress import track

from mmcity.datasets.io.info_pickle import load_info_pickle, save_info_pickle
from mmcity.utils.failures import ItemFailures
from mmcity.utils.fileio import read_json


def add_scene_names(
    root: str | os.PathLike,
    *,
    out_dir: str | os.PathLike | None = None,
    extra_tag: str = "nuscenes",
    version: str = "v1.0",
) -> dict[Path, tuple[int, int]]:
    """Add ``scene_token`` and ``scene_idx`` to info files, from the tables of nuScenes.

    Those of ``<extra-tag>_infos_{train,val,test}.pkl`` that exist are rewritten. Running it
    again changes nothing.

    Args:
        root: Folder of the tables.
        out_dir: Folder of the info files. Defaults to the root.
        extra_tag: Prefix of the info files. Defaults to ``nuscenes``.
        version: ``v1.0`` (trainval and test, whichever is there), ``v1.0-mini`` or a folder's
            name. Defaults to ``v1.0``.

    Returns:
        Numbers of key frames and of those that were changed, by file.

    Raises:
        FileNotFoundError: If there are no tables or no info files.
        ValueError: If an info file names a sample that the tables lack, or cannot be read; a
            UserError where there are others, which are done by then.
    """
    root, out = Path(root), Path(out_dir or root)
    scenes = _scene_of_samples(_table_folders(root, version))
    files = [out / f"{extra_tag}_infos_{split}.pkl" for split in ("train", "val", "test")]
    files = [path for path in files if path.is_file()]
    if not files:
        raise FileNotFoundError(
            f"{out}: expected {extra_tag}_infos_{{train,val,test}}.pkl, found none"
        )
    counts, failures = {}, ItemFailures("info files")
    for path in files:
        with failures.item(str(path)):
            counts[path] = _name_scenes(path, root, scenes)
    failures.check()
    return counts


def _name_scenes(path: Path, root: Path, scenes: dict[str, tuple[str, str]]) -> tuple[int, int]:
    """Numbers of key frames and of those that were changed."""
    content = load_info_pickle(path)
    changed = 0
    for info in track(content["data_list"], description=path.name):
        if info.get("token") not in scenes:
            raise ValueError(f"{path}: expected samples of {root}, got {info.get('token')}")
        token, name = scenes[info["token"]]
        if (info.get("scene_token"), info.get("scene_idx")) != (token, name):
            info["scene_token"], info["scene_idx"] = token, name
            changed += 1
    if changed:
        save_info_pickle(content, path)
    return len(content["data_list"]), changed


def _table_folders(root: Path, version: str) -> list[Path]:
    """Folders of tables that a version stands for."""
    names = ["v1.0-trainval", "v1.0-test"] if version == "v1.0" else [version]
    folders = [root / name for name in names if (root / name).is_dir()]
    if not folders:
        raise FileNotFoundError(
            f"{root}: expected one of the folders {names}, found none: name the "
            "folder of nuScenes as root path"
        )
    return folders


def _scene_of_samples(folders: list[Path]) -> dict[str, tuple[str, str]]:
    """Scene token and scene name of every sample token."""
    result = {}
    for folder in folders:
        names = {row["token"]: row["name"] for row in read_json(folder / "scene.json")}
        for row in read_json(folder / "sample.json"):
            result[row["token"]] = (row["scene_token"], names[row["scene_token"]])
    return result
