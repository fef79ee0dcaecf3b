"""Render the training and/or held-out views of a scene.

Writes OUT/SPLIT/{renders,gt,depths,normals}/NAME.png: depths in 16 bit, 65535 being
--depth-limit; normals in camera axes. Scenes whose colours follow a photograph show each view
as its own photograph looks, or all of them in one --appearance. Checkpoints may be whole or
written in parts by several processes. Several processes (torchrun) share out the views.
"""

import argparse
from pathlib import Path

from mmcity.cli import flags

EXAMPLE = (
    "mmcity render configs/citygsx/citygsx_toytown_cpu.py work_dirs/town/iter_1000.pth"
    " --out renders --splits train test"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of rendering."""
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--out", type=Path, default=Path("renders"))
    parser.add_argument("--splits", nargs="+", default=["test"], choices=("train", "test"))
    parser.add_argument("--every", type=int, default=1, help="take every n-th view")
    parser.add_argument(
        "--appearance",
        metavar="LOOK",
        help="intrinsic, or the name of a training image; default: each view's own photograph",
    )
    parser.add_argument("--blend", type=float, default=1.0, help="weight of the appearance, 0 to 2")
    parser.add_argument("--depth-limit", type=float, help="world units; default: each view's own")
    flags.add_device(parser)
    flags.add_cfg_options(parser)


def run(args: argparse.Namespace) -> None:
    """Render."""
    from mmcity.apis.scenes import render_views

    for split, files in render_views(**flags.function_arguments(args)).items():
        print(f"{args.out / split}: {len(files)} views")
