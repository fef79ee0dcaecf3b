"""Print a config with everything it inherits."""

import argparse

from mmcity.cli import flags

EXAMPLE = "tools/analysis_tools/print_config.py configs/rap/rap_colmap.py --save whole.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the print."""
    parser.add_argument("config", help="config file")
    flags.add_cfg_options(parser)
    parser.add_argument("--save", help="also write it to this file (.py, .json or .yaml)")


def run(args: argparse.Namespace) -> None:
    """Print."""
    from mmcity.engine.config_options import parse_options
    from mmcity.engine.launch import load_config
    from mmcity.utils import atomic_path

    cfg = load_config(args.config, parse_options(args.cfg_options))
    print(cfg.pretty_text)
    if args.save:
        with atomic_path(args.save) as path:
            cfg.dump(path)
