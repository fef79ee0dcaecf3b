"""Measure how generated clips change over time: consistency, speeds, vehicle counts."""

import argparse

from mmcity.cli.options import add_function

EXAMPLE = "python tools/analysis_tools/clip_consistency.py clips --window 16 --overlap 2"
_FUNCTION = "mmcity.apis.occupancy.clip_consistency:measure_clip_consistency"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of measuring."""
    add_function(parser, _FUNCTION, "folder", failures=None)


def run(args: argparse.Namespace) -> None:
    """Measure."""
    from mmcity.apis.occupancy.clip_consistency import measure_clip_consistency
    from mmcity.utils.failures import ItemFailures

    failures = ItemFailures("clips")
    for name, value in measure_clip_consistency(**vars(args), failures=failures).items():
        print(f"{name}: {value:.4f}")
    failures.check()
