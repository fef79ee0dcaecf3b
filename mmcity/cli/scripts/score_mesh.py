"""Precision, recall and F1 of a mesh or cloud against a true point cloud.

``vertex`` compares vertices as they are. ``tnt`` follows Tanks and Temples: the prediction is
brought to the truth's frame by a 4x4 matrix, both are cropped to a polygon, thinned to one point
per cell of half the threshold, and aligned by ICP.
"""

from mmcity.cli.options import command

EXAMPLE = "python tools/analysis_tools/score_mesh.py mesh.ply truth.ply --threshold 1.0"


def _show(scores, args):
    text = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
    print(f"{args.protocol}, threshold {args.threshold:g}: {text}")


add_arguments, run = command(
    "mmcity.apis.scenes.scores:score_mesh", "prediction truth", _show, protocol=("vertex", "tnt")
)
