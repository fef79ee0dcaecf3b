"""Make the info files (format v2) of nuScenes from its raw tables.

``python tools/dataset_converters/nuscenes_converter.py data/nuscenes --version v1.0-trainval``
writes ``<extra-tag>_infos_{train,val}.pkl``, or ``_test.pkl`` for ``v1.0-test``; ``scene_idx``
(the name of the scene, which Occ3D's folders are called by) is in them. The files hold plain
data, and mmdet3d reads them, too.
"""

import argparse
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Info files of nuScenes from its raw tables")
    parser.add_argument("root", help="folder of nuScenes")
    parser.add_argument(
        "--version",
        default="v1.0-trainval",
        help="folder of the tables: v1.0-trainval, v1.0-mini or v1.0-test",
    )
    parser.add_argument("--out-dir", help="folder for the info files; default: the root")
    parser.add_argument("--extra-tag", default="nuscenes", help="prefix of the info files")
    parser.add_argument(
        "--max-sweeps", type=int, default=10, help="lidar sweeps listed before a key frame"
    )
    parser.add_argument(
        "--check-files", action="store_true", help="fail if an image or lidar file is missing"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Convert."""
    args = parse_args(argv)

    from rich.progress import track

    from mmcity.datasets.io.info_pickle import save_info_pickle
    from mmcity.datasets.io.nuscenes_tables import (
        DETECTION_CLASSES,
        NuScenesTables,
        make_infos,
        scene_splits,
    )

    root = Path(args.root)
    out = Path(args.out_dir or root)
    tables = NuScenesTables(root, args.version)
    scenes = {scene["name"]: scene for scene in tables.scenes()}
    for split, names in scene_splits(tables, official_splits).items():
        infos = []
        for name in track(names, description=split):
            infos += make_infos(tables, scenes[name], args.max_sweeps)
        for number, info in enumerate(infos):
            info["sample_idx"] = number
        if args.check_files:
            check_files(root, infos)
        metainfo = {
            "categories": {name: i for i, name in enumerate(DETECTION_CLASSES)},
            "dataset": "nuscenes",
            "version": args.version,
            "info_version": "1.1",
        }
        path = out / f"{args.extra_tag}_infos_{split}.pkl"
        save_info_pickle({"metainfo": metainfo, "data_list": infos}, path)
        print(f"{path}: {len(names)} scenes, {len(infos)} key frames")


def official_splits() -> dict[str, list[str]]:
    """Scenes of train and val, as nuscenes-devkit lists them."""
    try:
        from nuscenes.utils.splits import create_splits_scenes
    except ImportError as error:
        raise SystemExit(
            "error: the scenes of train and val are listed in nuscenes-devkit, which is not "
            f"installed ({error}). Install requirements/det3d-nodeps.txt, or write splits.json "
            "({'train': [names], 'val': [names]}) beside the tables"
        ) from error
    return create_splits_scenes()


def check_files(root: Path, infos: list[dict]) -> None:
    """Stop if a file that the infos name is not there."""
    missing = []
    for info in infos:
        paths = [Path("samples/LIDAR_TOP") / info["lidar_points"]["lidar_path"]]
        paths += [Path("samples") / c / image["img_path"] for c, image in info["images"].items()]
        paths += [Path(sweep["lidar_points"]["lidar_path"]) for sweep in info["lidar_sweeps"]]
        missing += [path for path in paths if not (root / path).is_file()]
    if missing:
        raise SystemExit(f"{root}: {len(missing)} files are missing, the first is {missing[0]}")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
