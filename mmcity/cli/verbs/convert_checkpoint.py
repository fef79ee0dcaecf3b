"""Convert a published checkpoint of a system, or with --reverse one of ours to that form.

Names and shapes are checked; what is missing or extra is listed, and then nothing is written.
rap is for pose networks (ckpt-*.pt or full_checkpoint.pth), rap-map for appearance maps, of which
the source is a 3DGS folder, and citygsx takes a folder OUT/point_cloud/iteration_N.
"""

import argparse

from mmcity.cli import flags
from mmcity.cli.options import command

EXAMPLE = "mmcity convert-checkpoint rap ckpt-best.pt checkpoints/rap.pth"


_SYSTEMS = ("citygsx", "dynamiccity", "gausstr", "rap", "rap-map", "streamvggt")
_add_options, run = command(
    "mmcity.apis.convert_checkpoint:convert_checkpoint", "system src dst", system=_SYSTEMS,
    weights=("ema", "model"),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the conversion."""
    _add_options(parser)
    flags.add_unsafe_load(parser)
