"""Fit scale and offset of monocular inverse depths to the sparse points of a COLMAP model.

Writes depth_params.json beside the model. Images whose fit fails get 0 and are left out by the
datasets.
"""

from mmcity.cli.options import command

EXAMPLE = "mmcity data fit-depth-scale SCENE --depth-dir train/depths --method median"


def _show(fitted, _):
    path, params = fitted
    failed = sorted(name for name, row in params.items() if row["scale"] <= 0)
    print(f"{path}: {len(params)} images, {len(failed)} without a fit {failed[:5]}")


add_arguments, run = command(
    "mmcity.datasets.depth_scale:fit_scene_depths", "scene", _show,
    method=("median", "lsq", "ransac"),
)  # fmt: skip
