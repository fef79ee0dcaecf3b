"""Count the voxels of each class in the occupancy that a config trains on.

The line that is printed goes into the config below ``model``: by these numbers the losses of the
VAE weigh classes.
"""

from mmcity.cli.options import command

EXAMPLE = "tools/analysis_tools/class_frequencies.py configs/dynamiccity/dynamiccity_vae_waymo.py"


def _show(counts, _):
    print(f"class_frequencies={counts},")


add_arguments, run = command(
    "mmcity.apis.occupancy.class_frequencies:count_class_frequencies", "config", _show
)
