"""Bake a scene of anchors to plain Gaussians that any 3DGS viewer reads.

python tools/bake_scene.py CONFIG CHECKPOINT scene.ply [--level 2]
"""

import argparse
from pathlib import Path

import torch

from mmcity.engine import launch
from mmcity.registry import MODELS
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
    model = MODELS.build(launch.load_config(args.config).model)
    state = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    model.load_state_dict(state.get("state_dict", state))
    gaussians = model.eval().to_gaussians(level=args.level)
    write = write_splat if args.out.suffix == ".splat" else write_gaussians_ply
    write(gaussians, args.out)
    print(f"{args.out}: {len(gaussians)} Gaussians of {model.summary}")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
