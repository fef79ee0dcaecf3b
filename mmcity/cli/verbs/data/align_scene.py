"""Find the metric or geographic frame of a COLMAP scene from known positions of its cameras.

Writes SCENE/alignment.json, which localisation takes. The CSV has columns name,x,y,z (metres) or
name,latitude,longitude,height; names are images, or, with --points, control points whose scene
coordinates a second CSV name,x,y,z gives.
"""

import argparse

EXAMPLE = "mmcity data align-scene data/scene --positions gps.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the alignment."""
    parser.add_argument("scene", help="COLMAP scene folder")
    parser.add_argument("--positions", required=True, help="CSV of known positions")
    parser.add_argument("--points", help="CSV of control points in scene units")
    parser.add_argument(
        "--threshold", type=float, default=10.0, help="metres above which a position is wrong"
    )
    parser.add_argument("--out", help="default: alignment.json in the scene")


def run(args: argparse.Namespace) -> None:
    """Align."""
    from mmcity.datasets.alignment import align_scene

    print(align_scene(**vars(args)))
