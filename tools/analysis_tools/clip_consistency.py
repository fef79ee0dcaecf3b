"""Temporal numbers of generated clips: ``python tools/analysis_tools/clip_consistency.py DIR``.

Reads the ``.npz`` files (array ``voxels``) that ``tools/generate.py`` wrote.
"""

import argparse
from pathlib import Path

import numpy as np
import torch


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="clips, *.npz with an array 'voxels' (T, X, Y, Z)")
    parser.add_argument("--window", type=int, help="frames of the windows that were joined")
    parser.add_argument("--overlap", type=int, default=0, help="frames that windows share")
    parser.add_argument("--voxel-size", type=float, default=0.4, help="metres")
    parser.add_argument("--frame-time", type=float, default=0.1, help="seconds between frames")
    return parser.parse_args()


def main() -> None:
    """Print consistency, speeds and vehicle counts, and the consistency at seams."""
    args = parse_args()
    from mmcity.evaluation.metrics import TemporalConsistency

    files = sorted(Path(args.folder).glob("*.npz"))
    if not files:
        raise SystemExit(f"error: {args.folder} holds no .npz clips")
    seams = None if args.window is None else (args.window, args.window - args.overlap)
    metric = TemporalConsistency(args.voxel_size, args.frame_time, seams=seams)
    for file in files:
        with np.load(file) as data:
            clip = torch.from_numpy(data["voxels"])
        metric.process({}, [{"pred_occupancy": clip}])
    for name, value in metric.compute_metrics(metric.results).items():
        print(f"{name}: {value:.4f}")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
