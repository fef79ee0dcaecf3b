"""Mask depth priors that neighbouring views contradict.

Writes one mask (0 or 255) per training image at the training size. Images that have one already
are left as they are, so an interrupted run goes on where it stopped.
"""

import argparse

EXAMPLE = "mmcity data filter-depth SCENE --out train/mask --factor 4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the filter."""
    parser.add_argument("scene", help="scene folder")
    parser.add_argument("--out", default="train/mask", help="folder below the scene")
    parser.add_argument("--image-dir", default="auto")
    parser.add_argument("--depth-dir", default="auto")
    parser.add_argument("--factor", type=float, default=1.0, help="divisor of the pictures' size")
    parser.add_argument("--max-error", type=float, default=1.0, help="px a point may be off")
    parser.add_argument("--num", type=int, default=8, help="neighbours per view")
    parser.add_argument("--max-angle", type=float, default=30.0, help="degrees")
    parser.add_argument("--min-dis", type=float, default=0.01, help="world units")
    parser.add_argument("--max-dis", type=float, default=1.5, help="world units")
    parser.add_argument(
        "--keep-unfiltered",
        action="store_true",
        help="views without neighbours count as valid instead of invalid",
    )


def run(args: argparse.Namespace) -> None:
    """Filter all training views."""
    from mmcity.datasets.depth_filter import filter_depth

    print(filter_depth(**vars(args)))
