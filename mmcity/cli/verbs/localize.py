"""Localise pictures in a map."""

import argparse
from pathlib import Path

from mmcity.cli import flags

EXAMPLE = "mmcity localize OUT/localizer.json --queries PICTURES --out results"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of localisation."""
    parser.add_argument(
        "scene",
        help="COLMAP scene folder of the mapped images, or a localizer.json of "
        "mmcity make-localizer, which names the map and all else",
    )
    parser.add_argument("--map", help="3DGS .ply file, or checkpoint")
    parser.add_argument("--map-config", help="config of a map given as a checkpoint")
    parser.add_argument(
        "--queries", help="image or folder; default: the test split of the scene, with errors"
    )
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--config", help="config of a pose network")
    flags.add_checkpoint(parser, "its weights")
    parser.add_argument(
        "--start",
        default="all",
        choices=("all", "regression", "mapped"),
        help="first poses: the pose network's alone, mapped images that look alike alone, or all",
    )
    parser.add_argument(
        "--poses",
        metavar="FILE",
        help="refine from these first poses instead: lines name qw qx qy qz tx ty tz "
        "(world to camera), such as the poses.txt of another run",
    )
    parser.add_argument("--starts", type=int, default=3, help="mapped images to start from")
    parser.add_argument("--matcher", default="SIFTMatcher", help="registered matcher")
    parser.add_argument("--matcher-weights", help="weights of a learned matcher")
    parser.add_argument(
        "--pnp", default="opencv", choices=("opencv", "poselib", "pycolmap"), help="RANSAC of it"
    )
    parser.add_argument(
        "--depth-mode",
        choices=("expected", "accumulated", "median"),
        help="depth of the map that lifts matches; default: as the map's config says",
    )
    parser.add_argument(
        "--sigma-scale", type=float, default=1.0,
        help="factor on predicted deviations, such as the sigma_factor of a run with known poses",
    )  # fmt: skip
    parser.add_argument("--long-side", type=int, help="px to which larger pictures are reduced")
    parser.add_argument(
        "--intrinsics", help="text file of the queries' cameras: name MODEL width height params"
    )
    parser.add_argument("--focal", type=float, help="px, of the queries; default: as mapped")
    parser.add_argument("--limit", type=int, help="localise only the first so many")
    parser.add_argument("--unit-scale", type=float, help="metres per scene unit; default: 1")
    parser.add_argument("--not-metric", action="store_true", help="scene units are not metres")
    parser.add_argument("--alignment", help="JSON of a similarity to metres or a geo frame")
    parser.add_argument(
        "--good", type=float, nargs=2, default=(0.25, 2.0), metavar=("METRES", "DEG"),
        help="errors below which a pose is good, to judge the confidence (default: 0.25 2)",
    )  # fmt: skip
    parser.add_argument("--label", default="", help="name of this run in tables")
    parser.add_argument("--seed", type=int, help="seed of the training, for tables")
    parser.add_argument("--up", type=float, nargs=3, help="direction to look down from")
    parser.add_argument(
        "--no-pictures", dest="pictures", action="store_false", help="no query beside render"
    )
    flags.add_device(parser)


def run(args: argparse.Namespace) -> None:
    """Localise."""
    from mmcity.utils import check_dependencies

    check_dependencies()

    from mmcity.apis import localize_queries

    args.good = tuple(args.good)
    report = localize_queries(**vars(args))
    for key, value in report.summary(args.good).items():
        print(f"{key}: {_short(value)}")
    print(f"wrote {Path(args.out) / 'poses.txt'} and {Path(args.out) / 'results.json'}")


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(part)}" for key, part in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
