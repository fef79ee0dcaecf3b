"""Localise pictures in a map."""

from pathlib import Path

from mmcity.cli.options import command

EXAMPLE = "mmcity localize OUT/localizer.json --queries PICTURES --out results"


def _show(report, args):
    for key, value in report.summary(args.good).items():
        print(f"{key}: {_short(value)}")
    print(f"wrote {Path(args.out) / 'poses.txt'} and {Path(args.out) / 'results.json'}")
    report.failures.check()


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(part)}" for key, part in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


add_arguments, run = command(
    "mmcity.apis.localization.queries:localize_queries", "scene", _show,
    start=("all", "regression", "mapped"), pnp=("opencv", "poselib", "pycolmap"),
    depth_mode=("expected", "accumulated", "median"), good=dict(metavar=("METRES", "DEG")),
    up=dict(nargs=3),
)  # fmt: skip
