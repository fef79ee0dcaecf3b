"""Write a smaller copy of a COLMAP scene: pictures, cameras and points of a lower resolution."""

from mmcity.cli.options import command

EXAMPLE = "mmcity data reduce-colmap SCENE SMALL --long-side 480 --quality 85"


add_arguments, run = command(
    "mmcity.datasets.converters.reduce_colmap:reduce_scene", "src dst",
    features=("observed", "none"),
)  # fmt: skip
