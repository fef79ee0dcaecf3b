"""Run a chain of stages from images of a place to map, localiser, occupancy and futures.

A finished stage is not run again; a killed chain goes on where it was.
"""

import argparse

from mmcity.cli import flags
from mmcity.cli.options import add_function

EXAMPLE = "python projects/city_twin/run.py projects/city_twin/configs/toytown_cpu.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the chain."""
    example = dict(example="stages.mesh.voxel_size=0.2")
    chain = "mmcity.workflow.city_twin.city_twin:run_city_twin"
    add_function(parser, chain, "config", cfg_options=example)
    parser.add_argument("--list", action="store_true", help="show the stages and their state")


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
