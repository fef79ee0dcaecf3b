"""Precision, recall and F1 of a mesh or cloud against a true point cloud.

``vertex`` compares vertices as they are. ``tnt`` follows Tanks and Temples: the prediction is
brought to the truth's frame by a 4x4 matrix, both are cropped to a polygon, thinned to one point
per cell of half the threshold, and aligned by ICP.
"""

import argparse
from pathlib import Path

EXAMPLE = "python tools/analysis_tools/score_mesh.py mesh.ply truth.ply --threshold 1.0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the protocols."""
    parser.add_argument("prediction", type=Path, help="mesh or cloud")
    parser.add_argument("truth", type=Path, help="mesh or cloud")
    parser.add_argument("--threshold", type=float, required=True, help="world units")
    parser.add_argument("--protocol", default="vertex", choices=("vertex", "tnt"))
    parser.add_argument("--transform", type=Path, help="text file: prediction to truth")
    parser.add_argument("--crop", type=Path, help="SelectionPolygonVolume of Open3D, json")


def run(args: argparse.Namespace) -> None:
    """Score."""
    from mmcity.apis.scenes import score_mesh

    text = ", ".join(f"{name} {value:.3f}" for name, value in score_mesh(**vars(args)).items())
    print(f"{args.protocol}, threshold {args.threshold:g}: {text}")
