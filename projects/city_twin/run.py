"""A digital twin of a place: ``python projects/city_twin/run.py CONFIG``."""

import argparse
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Run a chain of stages from images to map, localiser, occupancy and futures. "
        "A finished stage is not run again; a killed chain goes on where it was."
    )
    parser.add_argument("config", help="such as projects/city_twin/configs/toytown_cpu.py")
    parser.add_argument("--work-dir", help="default: the config's")
    parser.add_argument("--force", nargs="+", default=[], metavar="STAGE", help="run anew")
    parser.add_argument("--skip", nargs="+", default=[], metavar="STAGE", help="leave out")
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage")
    parser.add_argument("--list", action="store_true", help="show the stages and their state")
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="change values")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the chain and write its report, also of a chain that broke off."""
    args = parse_args(argv)
    sys.path[:0] = [path for path in (str(REPO),) if path not in sys.path]

    from mmcity.engine.config_options import parse_options
    from mmcity.engine.launch import load_config
    from mmcity.utils.setup_env import register_all_modules
    from mmcity.workflow import handover_table, write_report
    from projects.city_twin import Chain

    register_all_modules()
    cfg = load_config(args.config, parse_options(args.cfg_options))
    work_dir = args.work_dir or cfg.work_dir
    chain = Chain(cfg.stages.to_dict(), work_dir, cfg.get("seed", 0))
    if args.list:
        for name in chain.stages:
            record = chain.manifest.stages.get(name)
            print(f"{name:14s} {'-' if record is None else record.status}")
        return
    try:
        chain.run(args.force, args.skip, args.until)
    finally:
        report = write_report(chain.manifest, f"City twin: {Path(args.config).stem}")
        print("\n" + handover_table(chain.manifest))
        print(f"\n{report}")


if __name__ == "__main__":
    sys.path.insert(0, str(REPO))
    from mmcity.utils.cli import run_command

    run_command(main)
