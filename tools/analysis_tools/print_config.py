"""Print a config with all it inherits: ``tools/analysis_tools/print_config.py CONFIG``."""

import argparse


def main() -> None:
    """Print."""
    parser = argparse.ArgumentParser(description="Print a config with everything it inherits")
    parser.add_argument("config", help="config file")
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="values to change")
    parser.add_argument("--save", help="also write it to this file (.py, .json or .yaml)")
    args = parser.parse_args()

    from mmcity.engine.launch import load_config, parse_options
    from mmcity.utils import atomic_path

    cfg = load_config(args.config, parse_options(args.cfg_options))
    print(cfg.pretty_text)
    if args.save:
        with atomic_path(args.save) as path:
            cfg.dump(path)


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
