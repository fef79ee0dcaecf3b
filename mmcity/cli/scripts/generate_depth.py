"""Make depth priors: one 16-bit picture of inverse depth per photograph.

    python tools/generate_depth.py SCENE --estimator toytown
    python tools/generate_depth.py SCENE --estimator streaming --config CONFIG --weights FILE

Scale and shift are fitted afterwards by `fit_depth_scale`. Pictures that are there already are
left as they are.
"""

import argparse
from pathlib import Path

from mmcity.cli import flags

EXAMPLE = "python tools/generate_depth.py SCENE --estimator depth_anything --weights FOLDER"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the estimators."""
    parser.add_argument("scene", type=Path)
    parser.add_argument(
        "--estimator", required=True, choices=("depth_anything", "toytown", "streaming")
    )
    parser.add_argument("--weights", help="folder (depth_anything) or checkpoint (streaming)")
    parser.add_argument("--config", help="of the streaming model")
    parser.add_argument("--image-dir", default="train/rgbs", help="below the scene")
    parser.add_argument("--out", default="train/depths", help="below the scene")
    flags.add_device(parser, "cpu")


def run(args: argparse.Namespace) -> None:
    """Estimate."""
    from mmcity.apis.streaming import generate_depth

    files = generate_depth(**flags.function_arguments(args))
    print(f"{args.scene / args.out}: {len(files)} maps written")
