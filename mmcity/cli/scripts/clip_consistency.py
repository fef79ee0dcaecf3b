"""Measure how generated clips change over time: consistency, speeds, vehicle counts."""

import argparse

EXAMPLE = "python tools/analysis_tools/clip_consistency.py clips --window 16 --overlap 2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the measurement."""
    parser.add_argument("folder", help="clips, *.npz with an array 'voxels' (T, X, Y, Z)")
    parser.add_argument("--window", type=int, help="frames of the windows that were joined")
    parser.add_argument("--overlap", type=int, default=0, help="frames that windows share")
    parser.add_argument("--voxel-size", type=float, default=0.4, help="metres")
    parser.add_argument("--frame-time", type=float, default=0.1, help="seconds between frames")


def run(args: argparse.Namespace) -> None:
    """Print the numbers, and those at seams."""
    from mmcity.apis.occupancy.clip_consistency import measure_clip_consistency

    for name, value in measure_clip_consistency(**vars(args)).items():
        print(f"{name}: {value:.4f}")
