"""Mask depth priors that neighbouring views contradict.

Writes one mask (0 or 255) per training image at the training size. Images that have one already
are left as they are, so an interrupted run goes on where it stopped.
"""

from mmcity.cli.options import command

EXAMPLE = "mmcity data filter-depth SCENE --out train/mask --factor 4"


add_arguments, run = command("mmcity.datasets.depth_filter:filter_depth", "scene")
