"""Test a model that a config describes."""

import argparse
from pathlib import Path

from mmcity.cli import flags

EXAMPLE = "mmcity test configs/citygsx/citygsx_toytown_cpu.py work_dirs/town/iter_1000.pth"


class _Checkpoint(argparse.Action):
    """The checkpoint, which may be given by place or by option."""

    def __call__(self, parser, namespace, values, option_string=None):
        if values is None:
            return
        if namespace.checkpoint not in (None, values):
            parser.error("two different checkpoints were given")
        namespace.checkpoint = values


def _out_file(text: str) -> str:
    if Path(text).suffix not in (".json", ".pkl", ".pickle"):
        raise argparse.ArgumentTypeError(f"expected a .json or .pkl file, got {text}")
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of testing."""
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "checkpoint",
        nargs="?",
        action=_Checkpoint,
        help="checkpoint file, or the name of published weights (mmcity weights list); leave "
        "it out (or give 'none') for a model without parameters",
    )
    parser.add_argument(
        "-C",
        "--checkpoint",
        dest="checkpoint",
        action=_Checkpoint,
        default=argparse.SUPPRESS,
        help="the same, as an option",
    )
    flags.add_work_dir(parser)
    parser.add_argument(
        "--out", type=_out_file, help="file for results: .json for metrics, .pkl for predictions"
    )
    parser.add_argument("--dump", metavar="DIR", help="folder for what each sample gives")
    parser.add_argument("--show-dir", metavar="DIR", help="folder for pictures of the results")
    flags.add_amp(parser)
    flags.add_cfg_options(parser, "test_dataloader.batch_size=2 data_root=PATH")
    flags.add_launcher(parser)
    flags.add_unsafe_load(parser)
    flags.add_random_weights(parser)


def run(args: argparse.Namespace) -> None:
    """Test."""
    from mmcity.utils import check_dependencies

    check_dependencies()

    from mmcity.engine.launch import test

    if args.checkpoint is not None and args.checkpoint.lower() == "none":
        args.checkpoint = None
    test(**flags.function_arguments(args))
