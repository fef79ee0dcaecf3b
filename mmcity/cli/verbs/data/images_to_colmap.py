"""Make a COLMAP scene from a folder of pictures, by structure from motion.

Features, matching, incremental mapping and undistortion by pycolmap (one shared camera), with
checks of what came out.
"""

import argparse

EXAMPLE = "mmcity data images-to-colmap pictures/ data/scene --test-every 10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the mapping."""
    parser.add_argument("images", help="folder of pictures, sub-folders included")
    parser.add_argument("out", help="folder of the scene to make")
    parser.add_argument("--camera-model", default="OPENCV", help="COLMAP model that is fitted")
    parser.add_argument(
        "--matching", default="auto", choices=("auto", "exhaustive", "sequential"),
        help="auto: exhaustive up to 250 pictures",
    )  # fmt: skip
    parser.add_argument("--overlap", type=int, default=15, help="sequential: neighbours matched")
    parser.add_argument("--max-features", type=int, default=4096, help="per picture")
    parser.add_argument("--max-image-size", type=int, default=1600, help="px, for features")
    parser.add_argument("--test-every", type=int, default=0, help="hold out every n-th picture")
    parser.add_argument("--threads", type=int, default=-1, help="-1: all cores")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> None:
    """Map."""
    from mmcity.datasets.converters import map_pictures

    print(map_pictures(**vars(args)))
