"""Render an orthophoto and a height model of a scene.

OUT.tif is seen straight from above, north up; OUT_dsm.tif has the heights of the same pixels
(float32, -9999 where there is nothing). GeoTIFF where the scene has a reference system, else a
world file (.tfw) lies beside each. Tiles are rendered one at a time, so that areas may be large.
"""

from mmcity.cli.options import command

EXAMPLE = "mmcity ortho scene.ply ortho.tif --pixel-size 0.1"


add_arguments, run = command(
    "mmcity.apis.scenes.ortho:render_ortho", "scene out",
    out=dict(nargs=None), up=("z", "y", "-y"),
    extent=dict(metavar=("WEST", "SOUTH", "EAST", "NORTH")),
)  # fmt: skip
