"""Convert scenes between formats.

Gaussians: .ply .splat .spz .glb (KHR_gaussian_splatting) and 3D Tiles, between all of them;
a checkpoint with --config is a source too. Cameras and points: COLMAP scene or model to and
from Nerfstudio. Meshes and point clouds: .ply .obj .glb .stl. Occupancy: .npz to .glb.

    mmcity export scene.ply tiles/tileset.json --georeference 8.54,47.38,410
    mmcity export iter_5000.pth scene.glb --config CONFIG
    mmcity export mesh.ply mesh.glb --up z
    mmcity export data/scene transforms.json
    mmcity export data/nerfstudio_scene sparse/0
"""

import argparse
from pathlib import Path

from mmcity.cli import flags

EXAMPLE = "mmcity export scene.ply scene.spz"


def _place(text: str) -> tuple[float, ...]:
    place = tuple(float(part) for part in text.split(","))
    if len(place) != 3:
        raise argparse.ArgumentTypeError(f"expected LON,LAT,HEIGHT, got {text}")
    return place


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of converting."""
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path, help="the name chooses the format")
    parser.add_argument("--config", help="config of a checkpoint")
    parser.add_argument("--level", type=int, help="of a CityGS-X checkpoint: coarsest levels only")
    parser.add_argument(
        "--up",
        default="z",
        choices=["z", "y", "-y"],
        help="axis of the world that points up, for glTF and 3D Tiles",
    )
    parser.add_argument(
        "--georeference",
        type=_place,
        metavar="LON,LAT,HEIGHT",
        help="of the origin, degrees and metres",
    )
    parser.add_argument("--max-per-cell", type=int, default=20_000, help="Gaussians of a tile")
    parser.add_argument("--frame", type=int, default=0, help="of an occupancy clip")


def run(args: argparse.Namespace) -> None:
    """Convert."""
    from mmcity.apis.scenes import export_scene

    print(export_scene(**flags.function_arguments(args)))
