"""Find the metric or geographic frame of a COLMAP scene from known positions of its cameras.

Writes SCENE/alignment.json, which localisation takes, and SCENE/frame.json, which travels with all
that is made from the scene. The CSV has columns name,x,y,z (metres) or
name,latitude,longitude,height; names are images, or, with --points, control points whose scene
coordinates a second CSV name,x,y,z gives.
"""

from mmcity.cli.options import command

EXAMPLE = "mmcity data align-scene data/scene --positions gps.csv"


add_arguments, run = command("mmcity.datasets.alignment:align_scene", "scene")
