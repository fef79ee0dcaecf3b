"""Add the names of the scenes to nuScenes info files that were made elsewhere.

Reads the tables sample.json and scene.json of the version and rewrites the info files
EXTRA-TAG_infos_{train,val,test}.pkl that exist. Running it again changes nothing.
"""

import argparse

EXAMPLE = "mmcity data update nuscenes --root-path data/nuscenes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the info files."""
    parser.add_argument("dataset", choices=["nuscenes"])
    parser.add_argument("--root-path", default="data/nuscenes", help="folder of the tables")
    parser.add_argument("--out-dir", help="folder of the info files; default: the root path")
    parser.add_argument("--extra-tag", default="nuscenes", help="prefix of the info files")
    parser.add_argument(
        "--version",
        default="v1.0",
        help="v1.0 (trainval and test, whichever is there), v1.0-mini or a folder's name",
    )


def run(args: argparse.Namespace) -> None:
    """Rewrite the info files."""
    from mmcity.datasets.converters import add_scene_names

    counts = add_scene_names(
        args.root_path, out_dir=args.out_dir, extra_tag=args.extra_tag, version=args.version
    )
    for path, (frames, changed) in counts.items():
        print(f"{path}: {frames} key frames, {changed} updated")
