"""Make a localiser of a folder of pictures.

Poses (structure from motion, unless the folder is a COLMAP scene or --model names one), checks,
map, pose network, localisation of the held-out pictures, and OUT/localizer.json, which
mmcity localize takes. A finished step is not run again; a killed one goes on.
"""

import argparse
import shlex

from mmcity.cli import flags
from mmcity.cli.main import build_parser

EXAMPLE = "mmcity make-localizer PICTURES OUT"


def _mapping(words: str) -> dict[str, object]:
    """Arguments of structure from motion, of words of its own command."""
    parser = build_parser("verbs.data", "images-to-colmap", "--mapping-options")
    given = vars(parser.parse_args(["PICTURES", "SCENE", *shlex.split(words)]))
    return {
        name: value
        for name, value in given.items()
        if name not in ("images", "out") and value != parser.get_default(name)
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the chain."""
    parser.add_argument("images", help="folder of pictures, or of a COLMAP scene")
    parser.add_argument("out", help="folder for everything; call again with it to go on")
    poses = parser.add_argument_group("poses and scale")
    poses.add_argument("--model", help="COLMAP model of the pictures; default: look, else make one")
    poses.add_argument(
        "--test-every", type=int, default=10, metavar="N",
        help="hold out every n-th picture as query, where the scene names none (default: 10)",
    )  # fmt: skip
    poses.add_argument("--positions", metavar="CSV", help="GPS or metres of cameras, for metres")
    poses.add_argument("--metric", action="store_true", help="scene units are metres already")
    poses.add_argument(
        "--mapping-options", dest="mapping", default={}, metavar="WORDS", type=_mapping,
        help='for mmcity data images-to-colmap, such as "--matching sequential"',
    )  # fmt: skip
    training = parser.add_argument_group("training and localisation")
    training.add_argument("--map-config", default="configs/rap/rap_map_colmap_cpu.py")
    training.add_argument("--map-options", nargs="+", default=[], metavar="KEY=VALUE")
    training.add_argument("--config", default="configs/rap/rap_colmap_cpu.py")
    training.add_argument("--network-options", nargs="+", default=[], metavar="KEY=VALUE")
    training.add_argument(
        "--no-network", dest="network", action="store_false",
        help="refine from mapped images that look alike alone; any mixture of cameras",
    )  # fmt: skip
    training.add_argument("--long-side", type=int, default=480, help="px, of queries (480)")
    training.add_argument("--starts", type=int, default=3, help="mapped images to start from")
    training.add_argument("--seed", type=int, default=0)
    steps = parser.add_argument_group("steps: poses checks map pose_network localization localizer")
    steps.add_argument("--force", nargs="+", default=[], metavar="STEP", help="run anew")
    steps.add_argument("--until", metavar="STEP", help="stop after this one")


def run(args: argparse.Namespace) -> None:
    """Run all steps."""
    from mmcity.workflow import make_localizer

    made = make_localizer(**flags.function_arguments(args))
    if made.is_file():
        print(f"mmcity localize {made} --queries PICTURES --out RESULTS")
