"""Run a chain of stages from images of a place to map, localiser, occupancy and futures.

A finished stage is not run again; a killed chain goes on where it was.
"""

import argparse

from mmcity.cli import flags

EXAMPLE = "python projects/city_twin/run.py projects/city_twin/configs/toytown_cpu.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the chain."""
    parser.add_argument("config", help="such as projects/city_twin/configs/toytown_cpu.py")
    flags.add_work_dir(parser)
    parser.add_argument("--force", nargs="+", default=[], metavar="STAGE", help="run anew")
    parser.add_argument("--skip", nargs="+", default=[], metavar="STAGE", help="leave out")
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage")
    parser.add_argument("--list", action="store_true", help="show the stages and their state")
    flags.add_cfg_options(parser, "stages.mesh.voxel_size=0.2")


def run(args: argparse.Namespace) -> None:
    """Run the chain, or show its state."""
    from mmcity.workflow.city_twin import build_city_twin, run_city_twin

    options = flags.function_arguments(args)
    if options.pop("list"):
        chain = build_city_twin(args.config, args.work_dir, options["cfg_options"])
        for name in chain.stages:
            record = chain.manifest.stages.get(name)
            print(f"{name:14s} {'-' if record is None else record.status}")
        return
    run_city_twin(**options)
