"""Make a COLMAP scene from a folder of pictures or a film, by structure from motion.

Features, matching, incremental mapping and undistortion by pycolmap (one shared camera), with
checks of what came out.
"""

from mmcity.cli.options import command

EXAMPLE = "mmcity data images-to-colmap pictures/ data/scene --test-every 10"


add_arguments, run = command(
    "mmcity.datasets.converters.images_to_colmap:map_pictures", "images out",
    matching=("auto", "exhaustive", "sequential"),
)  # fmt: skip
