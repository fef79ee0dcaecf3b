"""Measure how generated clips change over time: consistency, speeds, vehicle counts."""

from mmcity.cli.options import command

EXAMPLE = "python tools/analysis_tools/clip_consistency.py clips --window 16 --overlap 2"


def _show(numbers, _):
    for name, value in numbers.items():
        print(f"{name}: {value:.4f}")


add_arguments, run = command(
    "mmcity.apis.occupancy.clip_consistency:measure_clip_consistency", "folder", _show
)
