"""Make a localiser of a folder of pictures.

Poses (structure from motion, unless the folder is a COLMAP scene or --model names one), checks,
map, pose network, localisation of the held-out pictures, and OUT/localizer.json, which
mmcity localize takes. A finished step is not run again; a killed one goes on.
"""

import shlex

from mmcity.cli.main import build_parser
from mmcity.cli.options import command

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


def _show(made, _):
    if made.is_file():
        print(f"mmcity localize {made} --queries PICTURES --out RESULTS")


add_arguments, run = command(
    "mmcity.workflow.localization.make_localizer:make_localizer", "images out", _show,
    mapping=dict(flags="--mapping-options", default={}, type=_mapping, nargs=None, metavar="WORDS"),
    map_config=dict(default="configs/rap/rap_map_colmap_cpu.py"), map_options=dict(default=[]),
    config=dict(default="configs/rap/rap_colmap_cpu.py"), network_options=dict(default=[]),
)  # fmt: skip
