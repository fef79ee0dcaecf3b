"""Precision, recall and F1 of a mesh or cloud against a true point cloud.

    python tools/analysis_tools/score_mesh.py mesh.ply truth.ply --threshold 1.0
    python tools/analysis_tools/score_mesh.py mesh.ply truth.ply --threshold 0.5 --protocol tnt \
        [--transform transform.txt] [--crop polygon.json]

``vertex`` compares vertices as they are. ``tnt`` follows Tanks and Temples: the prediction is
brought to the truth's frame by a 4x4 matrix, both are cropped to a polygon, thinned to one point
per cell of half the threshold, and aligned by ICP.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import trimesh

from mmcity.evaluation.functional.point_clouds import f1_score, f1_tnt
from mmcity.utils.cli import run_command


def main() -> None:
    """Read, score, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("prediction", type=Path, help="mesh or cloud")
    parser.add_argument("truth", type=Path, help="mesh or cloud")
    parser.add_argument("--threshold", type=float, required=True, help="world units")
    parser.add_argument("--protocol", default="vertex", choices=("vertex", "tnt"))
    parser.add_argument("--transform", type=Path, help="text file: prediction to truth")
    parser.add_argument("--crop", type=Path, help="SelectionPolygonVolume of Open3D, json")
    args = parser.parse_args()
    prediction, truth = (
        np.asarray(trimesh.load(path).vertices) for path in (args.prediction, args.truth)
    )
    if args.protocol == "vertex":
        scores = f1_score(prediction, truth, args.threshold)
    else:
        scores = f1_tnt(
            prediction,
            truth,
            args.threshold,
            None if args.transform is None else np.loadtxt(args.transform),
            None if args.crop is None else json.loads(args.crop.read_text()),
        )
    text = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
    print(f"{args.protocol}, threshold {args.threshold:g}: {text}")


if __name__ == "__main__":
    run_command(main)
