"""Convert scenes between formats.

Gaussians: .ply .splat .spz .glb (KHR_gaussian_splatting) and 3D Tiles, between all of them, and
one .html file that shows them without a network;
a checkpoint with --config is a source too. Cameras and points: COLMAP scene or model to and
from Nerfstudio. Meshes and point clouds: .ply .obj .glb .stl. Occupancy: .npz to .glb, to
voxels (.voxels.glb, tileset.json) and to a folder of Occ3D.

    mmcity export scene.ply tiles/tileset.json --georeference 8.54,47.38,410
    mmcity export iter_5000.pth scene.glb --config CONFIG
    mmcity export scene.ply scene.html
    mmcity export mesh.ply mesh.glb --up z
    mmcity export data/scene transforms.json
    mmcity export data/nerfstudio_scene sparse/0
"""

import argparse

from mmcity.cli.options import command

EXAMPLE = "mmcity export scene.ply scene.spz"


def _place(text: str) -> tuple[float, ...]:
    place = tuple(float(part) for part in text.split(","))
    if len(place) != 3:
        raise argparse.ArgumentTypeError(f"expected LON,LAT,HEIGHT, got {text}")
    return place


class _Compress(argparse.Action):
    """``--compress [spz]`` and ``--no-compress``."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        setattr(namespace, self.dest, "none" if option_string == "--no-compress" else values)


add_arguments, run = command(
    "mmcity.apis.scenes.export:export_scene", "source target", up=("z", "y", "-y"),
    occ3d=("nuscenes", "waymo"),
    compress=dict(flags="--compress --no-compress", action=_Compress, nargs="?", const="spz",
                  choices=("spz",)),
    georeference=dict(type=_place, nargs=None, metavar="LON,LAT,HEIGHT"),
)  # fmt: skip
