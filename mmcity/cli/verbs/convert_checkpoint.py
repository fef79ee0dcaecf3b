"""Convert a published checkpoint of a system, or with --reverse one of ours to that form.

Names and shapes are checked; what is missing or extra is listed, and then nothing is written.
rap is for pose networks (ckpt-*.pt or full_checkpoint.pth), rap-map for appearance maps, of which
the source is a 3DGS folder, and citygsx takes a folder OUT/point_cloud/iteration_N.
"""

import argparse

from mmcity.cli import flags

EXAMPLE = "mmcity convert-checkpoint rap ckpt-best.pt checkpoints/rap.pth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the conversion."""
    parser.add_argument(
        "system", choices=("citygsx", "dynamiccity", "gausstr", "rap", "rap-map", "streamvggt")
    )
    parser.add_argument("src", help="published checkpoint (or ours, with --reverse)")
    parser.add_argument("dst", help="checkpoint to write (or a published one, with --reverse)")
    parser.add_argument("--reverse", action="store_true", help="from ours to the published form")
    parser.add_argument(
        "--config",
        help="config whose model the weights are for, a path or a name of `mmcity list`; needed "
        "for dynamiccity and gausstr (default: rap_colmap for rap, streamvggt_1b for streamvggt)",
    )
    parser.add_argument(
        "--weights",
        choices=["ema", "model"],
        help="dynamiccity: which weights of a published DiT file to take (default: ema)",
    )
    parser.add_argument("--text-protos", help="gausstr: tensor (C, P) where the source holds none")
    parser.add_argument("--iteration", type=int, help="rap-map: default: the last one")
    flags.add_unsafe_load(parser)


def run(args: argparse.Namespace) -> None:
    """Convert."""
    from mmcity.apis.convert_checkpoint import convert_checkpoint

    print(convert_checkpoint(**vars(args)))
