"""Add the names of the scenes to nuScenes info files that were made elsewhere.

Reads the tables sample.json and scene.json of the version and rewrites the info files
EXTRA-TAG_infos_{train,val,test}.pkl that exist. Running it again changes nothing.
"""

import argparse

from mmcity.cli.options import add_function

EXAMPLE = "mmcity data update nuscenes --root-path data/nuscenes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the info files."""
    parser.add_argument("dataset", choices=["nuscenes"])
    root = dict(flags="--root-path", default="data/nuscenes")
    add_function(parser, "mmcity.datasets.converters.scene_names:add_scene_names", root=root)


def run(args: argparse.Namespace) -> None:
    """Rewrite the info files."""
    from mmcity.datasets.converters import add_scene_names

    del args.dataset
    counts = add_scene_names(**vars(args))
    for path, (frames, changed) in counts.items():
        print(f"{path}: {frames} key frames, {changed} updated")
