"""Make depth priors: one 16-bit picture of inverse depth per photograph.

    python tools/generate_depth.py SCENE --estimator toytown
    python tools/generate_depth.py SCENE --estimator streaming --config CONFIG --weights FILE

Scale and shift are fitted afterwards by `fit_depth_scale`. Pictures that are there already are
left as they are.
"""

from pathlib import Path

from mmcity.cli.options import command

EXAMPLE = "python tools/generate_depth.py SCENE --estimator depth_anything --weights FOLDER"


def _show(files, args):
    print(f"{Path(args.scene, args.out)}: {len(files)} maps written")


add_arguments, run = command(
    "mmcity.apis.streaming.generate_depth:generate_depth", "scene", _show,
    estimator=("depth_anything", "toytown", "streaming"),
)  # fmt: skip
