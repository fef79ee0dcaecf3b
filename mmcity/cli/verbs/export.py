"""Convert scenes between formats.

Gaussians: .ply .compressed.ply .spz .sog .splat .glb (KHR_gaussian_splatting) and 3D Tiles,
between all of them, and one .html file that shows them without a network; --info tells what a file
holds, a line on stderr what a format could not; a checkpoint with --config is a source too.
Cameras and points: COLMAP scene or model to and from Nerfstudio. Meshes and point clouds: .ply
.obj .glb .stl. Occupancy: .npz to .glb, to voxels (.voxels.glb, tileset.json) and to a folder of
Occ3D.

    mmcity export scene.ply tiles/tileset.json --georeference 8.54,47.38,410
    mmcity export iter_5000.pth scene.glb --config CONFIG
    mmcity export scene.ply scene.html
    mmcity export old.spz scene.ply --assume-axes RUB --to-axes RDF
    mmcity export scene.sog --info
    mmcity export mesh.ply mesh.glb --up z
    mmcity export data/scene transforms.json
    mmcity export data/nerfstudio_scene sparse/0
"""

import argparse
import sys

from mmcity.cli.flags import function_arguments
from mmcity.cli.options import add_function
from mmcity.utils import check_dependencies
from mmcity.utils.cli import UserError, refused_with

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the conversion, and those that only tell of a file."""
    add_function(
        parser, "mmcity.apis.scenes.export:export_scene", "source target",
        target=dict(nargs="?"), up=("z", "y", "-y"), sh=dict(choices=range(5)),
        spz_version=dict(choices=(3, 4)), antialiased=dict(action=argparse.BooleanOptionalAction),
        assume_axes=dict(metavar="AXES"), to_axes=dict(metavar="AXES"),
        occ3d=("nuscenes", "waymo"),
        compress=dict(flags="--compress --no-compress", action=_Compress, nargs="?", const="spz",
                      choices=("spz",)),
        georeference=dict(type=_place, nargs=None, metavar="LON,LAT,HEIGHT"),
    )  # fmt: skip
    text = "tell what a file of Gaussians holds, write nothing"
    parser.add_argument("--info", action="store_true", help=text)
    parser.add_argument("--json", action="store_true", help="with --info, as JSON")


def run(args: argparse.Namespace) -> None:
    """Convert, or tell."""
    check_dependencies()
    with refused_with(2):
        options = function_arguments(args)
        tells, as_json = options.pop("info"), options.pop("json")
        if tells:
            from mmcity.apis.scenes.scene_facts import describe_scene

            facts = describe_scene(args.source, args.lod)
            print(facts.to_json() if as_json else facts)
            return
        if args.target is None:
            raise UserError("TARGET: expected a file or folder to write, got none: or give --info")
        from mmcity.apis.scenes import export_scene

        made = export_scene(**options)
        print(made)
        if made.lost:
            print(f"lost: {'; '.join(made.lost)}", file=sys.stderr)
