"""Reconstruct a scene from photographs or a film.

Chooses pictures, finds their poses, checks them, trains for --minutes and writes OUT/scene.ply,
OUT/scene.spz, OUT/scene.html, OUT/views.png and a report of what failed and why. A finished step
is not run again; a killed one goes on.

    mmcity reconstruct photographs/ OUT
    mmcity reconstruct walk.mp4 OUT --minutes 10 --mesh
"""

from mmcity.cli.options import command

EXAMPLE = "mmcity reconstruct photographs/ outputs/castle --minutes 4"


def _show(report, _):
    if report.ok:
        print(f"mmcity viewer {report.files['scene']}")


add_arguments, run = command(
    "mmcity.workflow.reconstruct.reconstruct:reconstruct", "source out", _show,
    matching=("auto", "exhaustive", "sequential"),
)  # fmt: skip
