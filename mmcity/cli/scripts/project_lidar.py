"""Draw lidar returns over the camera images of nuScenes key frames: a check of the calibration."""

import argparse

EXAMPLE = (
    "tools/analysis_tools/project_lidar.py data/nuscenes/nuscenes_infos_val.pkl "
    "--root data/nuscenes --out outputs/lidar"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the pictures."""
    parser.add_argument("infos", help="info file (format v2)")
    parser.add_argument("--root", default="data/nuscenes", help="folder of nuScenes")
    parser.add_argument("--out", default="outputs/lidar", help="folder for the pictures")
    parser.add_argument("--frames", type=int, default=4, help="key frames, evenly chosen")
    parser.add_argument("--width", type=int, default=640, help="of one camera in pixels")


def run(args: argparse.Namespace) -> None:
    """Draw."""
    from mmcity.apis.occupancy.lidar_overlay import draw_lidar_overlays

    for path in draw_lidar_overlays(**vars(args)):
        print(path)
