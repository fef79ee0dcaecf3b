"""Bake a scene of anchors to plain Gaussians that any 3DGS viewer reads.

python tools/bake_scene.py CONFIG CHECKPOINT scene.ply [--level 2]
"""

import argparse
from pathlib import Path

from mmcity.engine.scene_loading import load_scene
from mmcity.structures import write_gaussians_ply, write_splat


def main() -> None:
    """Read the command line, decode and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("out", type=Path, help="*.ply, or *.splat for web viewers")
    parser.add_argument("--level", type=int, help="levels up to this one; default: all")
    args = parser.parse_args()
    model = load_scene(args.checkpoint, args.config)
    gaussians = model.to_gaussians(level=args.level)
    write = write_splat if args.out.suffix == ".splat" else write_gaussians_ply
    write(gaussians, args.out)
    print(f"{args.out}: {len(gaussians)} Gaussians of {model.summary}")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
