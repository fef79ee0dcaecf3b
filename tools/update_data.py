"""Add ``scene_token`` and ``scene_idx`` to nuScenes info files made elsewhere.

``python tools/update_data.py nuscenes --root-path DIR --out-dir DIR --extra-tag nuscenes``
reads the tables ``sample.json`` and ``scene.json`` of the version and rewrites the info files
``<extra-tag>_infos_{train,val,test}.pkl`` that exist. Running it again changes nothing.
"""

import argparse
import json
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Add scene names to info files")
    parser.add_argument("dataset", choices=["nuscenes"])
    parser.add_argument("--root-path", default="data/nuscenes", help="folder of the tables")
    parser.add_argument("--out-dir", help="folder of the info files; default: the root path")
    parser.add_argument("--extra-tag", default="nuscenes", help="prefix of the info files")
    parser.add_argument(
        "--version",
        default="v1.0",
        help="v1.0 (trainval and test, whichever is there), v1.0-mini or a folder's name",
    )
    return parser.parse_args(argv)


def table_folders(root: Path, version: str) -> list[Path]:
    """Folders of tables that a version stands for."""
    names = ["v1.0-trainval", "v1.0-test"] if version == "v1.0" else [version]
    folders = [root / name for name in names if (root / name).is_dir()]
    if not folders:
        raise SystemExit(f"{root}: none of the folders {names} exists; is --root-path right?")
    return folders


def scene_of_samples(folders: list[Path]) -> dict[str, tuple[str, str]]:
    """Scene token and scene name of every sample token."""
    result = {}
    for folder in folders:
        names = {
            row["token"]: row["name"] for row in json.loads((folder / "scene.json").read_text())
        }
        for row in json.loads((folder / "sample.json").read_text()):
            result[row["token"]] = (row["scene_token"], names[row["scene_token"]])
    return result


def main(argv: list[str] | None = None) -> None:
    """Rewrite the info files."""
    args = parse_args(argv)

    from rich.progress import track

    from mmcity.datasets.io.info_pickle import load_info_pickle, save_info_pickle

    root = Path(args.root_path)
    out = Path(args.out_dir or args.root_path)
    scenes = scene_of_samples(table_folders(root, args.version))
    files = [out / f"{args.extra_tag}_infos_{split}.pkl" for split in ("train", "val", "test")]
    files = [path for path in files if path.is_file()]
    if not files:
        raise SystemExit(f"{out}: no {args.extra_tag}_infos_{{train,val,test}}.pkl")
    for path in files:
        content = load_info_pickle(path)
        changed = 0
        for info in track(content["data_list"], description=path.name):
            if info["token"] not in scenes:
                raise SystemExit(f"{path}: sample {info['token']} is in no table of {root}")
            token, name = scenes[info["token"]]
            if (info.get("scene_token"), info.get("scene_idx")) != (token, name):
                info["scene_token"], info["scene_idx"] = token, name
                changed += 1
        if changed:
            save_info_pickle(content, path)
        print(f"{path}: {len(content['data_list'])} key frames, {changed} updated")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
