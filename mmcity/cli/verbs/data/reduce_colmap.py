"""Write a smaller copy of a COLMAP scene: pictures, cameras and points of a lower resolution."""

import argparse

EXAMPLE = "mmcity data reduce-colmap SCENE SMALL --long-side 480 --quality 85"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the copy."""
    parser.add_argument("src", help="scene with images and a sparse model")
    parser.add_argument("dst", help="new folder")
    parser.add_argument("--long-side", type=int, default=480, help="px of the longer side")
    parser.add_argument("--quality", type=int, default=85, help="JPEG quality, 1 to 95")
    parser.add_argument(
        "--max-points", type=int, help="keep so many points, those seen by most images first"
    )
    parser.add_argument(
        "--features", choices=("observed", "none"), default="observed",
        help="keep the 2D points that belong to kept points, with the tracks; or none",
    )  # fmt: skip
    parser.add_argument("--image-dir", default="auto", help="images folder of the source")


def run(args: argparse.Namespace) -> None:
    """Reduce a scene."""
    from mmcity.datasets.converters import reduce_scene

    print(reduce_scene(**vars(args)))
