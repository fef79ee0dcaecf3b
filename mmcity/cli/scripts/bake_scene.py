"""Bake a scene of anchors to plain Gaussians that any 3DGS viewer reads.

The same as `mmcity export CHECKPOINT scene.ply --config CONFIG`.
"""

import argparse
from pathlib import Path

EXAMPLE = "python tools/bake_scene.py CONFIG CHECKPOINT scene.ply --level 2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of baking."""
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("out", type=Path, help="*.ply, or *.splat for web viewers")
    parser.add_argument("--level", type=int, help="levels up to this one; default: all")


def run(args: argparse.Namespace) -> None:
    """Bake."""
    from mmcity.apis.scenes import export_scene

    print(export_scene(args.checkpoint, args.out, config=args.config, level=args.level))
