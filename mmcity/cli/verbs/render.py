"""Render the training and/or held-out views of a scene.

Writes OUT/SPLIT/{renders,gt,depths,normals}/NAME.png: depths in 16 bit, 65535 being
--depth-limit; normals in camera axes. Scenes whose colours follow a photograph show each view
as its own photograph looks, or all of them in one --appearance. Checkpoints may be whole or
written in parts by several processes. Several processes (torchrun) share out the views.
"""

from pathlib import Path

from mmcity.cli.options import command

EXAMPLE = (
    "mmcity render configs/citygsx/citygsx_toytown_cpu.py work_dirs/town/iter_1000.pth"
    " --out renders --splits train test"
)


def _show(renders, args):
    for split, files in renders.items():
        print(f"{Path(args.out) / split}: {len(files)} views")


add_arguments, run = command(
    "mmcity.apis.scenes.render_views:render_views", "config checkpoint", _show,
    splits=("train", "test"),
)  # fmt: skip
