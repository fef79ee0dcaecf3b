"""Write a data set of a few small frames in the layout of a published one.

A config then shows what it does with its data before the data are there: the same names of
files and folders, number formats and units.
"""

from mmcity.cli.options import command

EXAMPLE = "mmcity data miniature citygsx data/mill19/rubble"

LAYOUTS = (
    *("7scenes", "7scenes_sfm", "cambridge", "carlasc", "citygsx", "colmap", "matrixcity"),
    *("nuscenes", "nuscenes_maps", "occ3d_nuscenes", "occ3d_waymo"),
    *("streaming_evaluation", "streaming_training"),
)

add_arguments, run = command(
    "mmcity.miniature.layouts:write_miniature", "layout out",
    layout=dict(choices=LAYOUTS, metavar="LAYOUT", help=", ".join(LAYOUTS)),
)  # fmt: skip
