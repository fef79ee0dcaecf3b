"""Reconstruct a small scene and show what came out."""

import argparse
import subprocess
import sys
from pathlib import Path

EXAMPLE = "mmcity demo --out outputs/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the demonstration."""
    parser.add_argument("--scene", type=Path, help="any COLMAP folder; default: the one that comes")
    parser.add_argument("--out", type=Path, default=Path("outputs/demo"), help="for the results")
    parser.add_argument("--max-iters", type=int, help="stop after so many, for a quick look")
    parser.add_argument("--no-toytown", action="store_true", help="only the scene")


def run(args: argparse.Namespace) -> None:
    """Run the demonstration of the source tree."""
    from mmcity.utils.cli import UserError, find_root

    script = find_root() / "demo" / "run.py"
    if not script.is_file():
        raise UserError(
            "the demonstration lies in the source tree; clone the repository and call "
            "`mmcity demo` or `make demo` there"
        )
    words: list[object] = ["--out", args.out.resolve()]
    for name in ("scene", "max_iters"):
        if getattr(args, name) is not None:
            words += [f"--{name.replace('_', '-')}", getattr(args, name)]
    words += ["--no-toytown"] if args.no_toytown else []
    done = subprocess.run([sys.executable, str(script), *map(str, words)], check=False)
    if done.returncode:
        raise UserError(f"the demonstration ended with status {done.returncode}")
