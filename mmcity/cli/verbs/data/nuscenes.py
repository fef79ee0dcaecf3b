"""Make the info files (format v2) of nuScenes from its raw tables.

They are EXTRA-TAG_infos_{train,val}.pkl, or _test.pkl for v1.0-test, with the names of the
scenes, by which Occ3D's folders are called. mmdet3d reads them, too.
"""

import argparse

EXAMPLE = "mmcity data nuscenes data/nuscenes --version v1.0-trainval"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the info files."""
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


def run(args: argparse.Namespace) -> None:
    """Convert."""
    from mmcity.datasets.converters import convert_nuscenes

    for path, (scenes, frames) in convert_nuscenes(**vars(args)).items():
        print(f"{path}: {scenes} scenes, {frames} key frames")
