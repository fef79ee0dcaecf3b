"""Make depth priors: one 16-bit picture of inverse depth per photograph.

    python tools/generate_depth.py SCENE --estimator depth_anything --weights FOLDER
    python tools/generate_depth.py SCENE --estimator toytown
    python tools/generate_depth.py SCENE --estimator streaming --config CONFIG --weights FILE

Scale and shift are fitted afterwards by tools/fit_depth_scale.py. Pictures that are there already
are left as they are.
"""

import argparse
from pathlib import Path

from rich.progress import Progress

from mmcity.apis.streaming.depth_estimators import (
    DepthAnythingEstimator,
    StreamingDepthEstimator,
    ToytownDepthEstimator,
)
from mmcity.utils.cli import UserError, run_command


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("scene", type=Path)
    parser.add_argument(
        "--estimator", required=True, choices=("depth_anything", "toytown", "streaming")
    )
    parser.add_argument("--weights", help="folder (depth_anything) or checkpoint (streaming)")
    parser.add_argument("--config", help="of the streaming model")
    parser.add_argument("--image-dir", default="train/rgbs", help="below the scene")
    parser.add_argument("--out", default="train/depths", help="below the scene")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def build(args: argparse.Namespace):
    """The estimator that was asked for."""
    if args.estimator == "toytown":
        return ToytownDepthEstimator(args.scene)
    if args.weights is None:
        raise UserError(f"--estimator {args.estimator} needs --weights")
    if args.estimator == "depth_anything":
        return DepthAnythingEstimator(args.weights, args.device)
    if args.config is None:
        raise UserError("--estimator streaming needs --config")
    return StreamingDepthEstimator(args.config, args.weights, args.device)


def main() -> None:
    """Estimate and write."""
    args = parse_args()
    estimator = build(args)
    with Progress() as progress:
        task = progress.add_task("Estimating depth")
        files = estimator.write(
            args.scene / args.image_dir,
            args.scene / args.out,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    print(f"{args.scene / args.out}: {len(files)} maps written")


if __name__ == "__main__":
    run_command(main)
