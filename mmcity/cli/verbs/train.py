"""Train a model that a config describes."""

import argparse

from mmcity.cli import flags

EXAMPLE = "mmcity train configs/citygsx/citygsx_toytown_cpu.py --work-dir work_dirs/town"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of training."""
    parser.add_argument("config", help="config file")
    flags.add_work_dir(parser)
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="auto|PATH",
        help="continue from a checkpoint; without a path, from the newest in the work directory",
    )
    flags.add_amp(parser)
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate with the batch size over all processes",
    )
    flags.add_cfg_options(parser, "train_cfg.max_iters=100 data_root=PATH")
    flags.add_launcher(parser)
    flags.add_unsafe_load(parser)


def run(args: argparse.Namespace) -> None:
    """Train."""
    from mmcity.utils import check_dependencies

    check_dependencies()

    from mmcity.engine.launch import train

    train(**flags.function_arguments(args))
