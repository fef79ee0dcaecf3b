"""Convert scenes between formats.

Gaussians: .ply .splat .spz .glb (KHR_gaussian_splatting) and 3D Tiles, between all of them;
a checkpoint with --config is a source too. Cameras and points: COLMAP scene or model to and
from Nerfstudio. Meshes and point clouds: .ply .obj .glb .stl. Occupancy: .npz to .glb, to
voxels (.voxels.glb, tileset.json) and to a folder of Occ3D.

    mmcity export scene.ply tiles/tileset.json --georeference 8.54,47.38,410
    mmcity export iter_5000.pth scene.glb --config CONFIG
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


add_arguments, run = command(
    "mmcity.apis.scenes.export:export_scene", "source target", up=("z", "y", "-y"),
    occ3d=("nuscenes", "waymo"),
    georeference=dict(type=_place, nargs=None, metavar="LON,LAT,HEIGHT"),
)  # fmt: skip
