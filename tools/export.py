r"""Convert scenes between formats: ``python tools/export.py SOURCE TARGET``.

Gaussians: .ply .splat .spz .glb (KHR_gaussian_splatting) and 3D Tiles, between all of them;
a checkpoint with --config is a source too. Cameras and points: COLMAP scene or model to and
from Nerfstudio. Meshes and point clouds: .ply .obj .glb .stl. Occupancy: .npz to .glb.

    python tools/export.py scene.ply scene.spz
    python tools/export.py scene.ply tiles/tileset.json --georeference 8.54,47.38,410
    python tools/export.py iter_5000.pth scene.glb --config CONFIG
    python tools/export.py mesh.ply mesh.glb --up z
    python tools/export.py data/scene transforms.json
    python tools/export.py data/nerfstudio_scene sparse/0
"""

import argparse
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path, help="the name chooses the format")
    parser.add_argument("--config", help="config of a checkpoint")
    parser.add_argument("--level", type=int, help="of a CityGS-X checkpoint: coarsest levels only")
    parser.add_argument(
        "--up", default="z", choices=["z", "y", "-y"],
        help="axis of the world that points up, for glTF and 3D Tiles",
    )  # fmt: skip
    parser.add_argument(
        "--georeference", metavar="LON,LAT,HEIGHT", help="of the origin, degrees and metres"
    )
    parser.add_argument("--max-per-cell", type=int, default=20_000, help="Gaussians of a tile")
    parser.add_argument("--frame", type=int, default=0, help="of an occupancy clip")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Read, convert, write."""
    args = parse_args(argv)

    from mmcity.utils.cli import UserError

    if args.target.name == "transforms.json" or args.source.is_dir() and not _is_tiles(args.source):
        return convert_cameras(args)
    kind, data = read_source(args)
    if kind == "gaussians":
        write_gaussian_file(data, args)
    elif kind == "occupancy":
        from mmcity.visualization.occupancy_mesh import occupancy_mesh

        grid, palette, _ = data  # the poses of a moving grid have no place in a mesh
        mesh = occupancy_mesh(grid if grid.labels.ndim == 3 else grid[args.frame], palette)
        write_mesh_file(mesh, args)
    elif kind in ("mesh", "points"):
        if kind == "points":
            import trimesh

            data = trimesh.PointCloud(*data)
        write_mesh_file(data, args)
    else:
        raise UserError(f"{args.source}: {kind} cannot be written as {args.target.name}")
    return None


def _is_tiles(path: Path) -> bool:
    return (path / "tileset.json").is_file()


def read_source(args: argparse.Namespace):
    """Kind and content of the source."""
    from mmcity.utils.cli import UserError
    from mmcity.visualization.viewer import open_layers

    if args.source.suffix == ".pth":
        import torch

        from mmcity.engine.scene_loading import load_scene
        from mmcity.utils.setup_env import register_all_modules

        if args.config is None:
            raise UserError(f"{args.source} is a checkpoint: give its --config too")
        register_all_modules()
        options = {} if args.level is None else {"level": args.level}
        with torch.no_grad():
            return "gaussians", load_scene(args.source, args.config).to_gaussians(**options)
    layers = open_layers(args.source)
    if len(layers) > 1:
        named = [f"{layer.kind} {layer.name}" for layer in layers]
        raise UserError(f"{args.source}: expected one thing to convert, got {named}")
    return layers[0].kind, layers[0].data


def write_gaussian_file(gaussians, args: argparse.Namespace) -> None:
    """Gaussians (or a tree of cells) in the target's format."""
    from mmcity.structures import (
        GaussianLodTree,
        build_lod_tree,
        write_gaussians,
        write_gaussians_glb,
    )
    from mmcity.visualization.tiles3d import write_tileset

    is_tree = isinstance(gaussians, GaussianLodTree)
    if args.target.name == "tileset.json" or not args.target.suffix:
        folder = args.target.parent if args.target.suffix else args.target
        tree = gaussians if is_tree else build_lod_tree(gaussians, args.max_per_cell)
        place = None
        if args.georeference:
            place = tuple(float(part) for part in args.georeference.split(","))
        index = write_tileset(tree, folder, args.up, place)
        print(f"{index}: {len(tree)} cells, {len(tree.leaves)} of them with the full scene")
        return
    if is_tree:
        gaussians = gaussians.gather(gaussians.leaves)
    if args.target.suffix.lower() == ".glb":
        write_gaussians_glb(gaussians, args.target, args.up)
    else:
        write_gaussians(gaussians, args.target)
    size = args.target.stat().st_size
    print(f"{args.target}: {len(gaussians)} Gaussians, {size / 1e6:.2f} MB")


def write_mesh_file(mesh, args: argparse.Namespace) -> None:
    """A mesh or points; glTF wants y up, the other formats keep the world's axes."""
    from mmcity.structures.io.gaussians_gltf import y_up
    from mmcity.utils.fileio import atomic_path

    mesh = mesh.copy()
    if args.target.suffix.lower() in (".glb", ".gltf"):
        mesh.apply_transform(y_up(args.up))
    with atomic_path(args.target) as temporary:
        mesh.export(temporary)
    print(f"{args.target}: {len(mesh.vertices)} vertices, {len(getattr(mesh, 'faces', []))} faces")


def convert_cameras(args: argparse.Namespace) -> None:
    """COLMAP to Nerfstudio, or a Nerfstudio folder to a COLMAP model."""
    from mmcity.datasets import NerfstudioDataset
    from mmcity.datasets.io.colmap_model import (
        find_colmap_model,
        read_colmap_model,
        write_colmap_model,
    )
    from mmcity.datasets.scene_export import to_colmap_model, write_transforms_json

    if args.target.name == "transforms.json":
        model = read_colmap_model(find_colmap_model(args.source), with_tracks=False)
        write_transforms_json(model, args.target, args.source)
    else:
        scene = NerfstudioDataset(args.source, split="all", undistort=True)
        model = to_colmap_model(scene)
        write_colmap_model(model, args.target)
    print(f"{args.target}: {len(model.images)} images, {len(model.points3D)} points")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
