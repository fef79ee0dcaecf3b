"""Look at files of every stage in the browser.

Gaussians (ply, splat, spz, glb, 3D Tiles, checkpoints), meshes, point clouds, COLMAP and
Nerfstudio scenes, trajectories, reconstructed streams, localised queries, occupancy clips.
"""

import argparse

from mmcity.cli.options import add_function

EXAMPLE = "mmcity viewer work_dirs/run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the viewer."""
    add_function(
        parser, "mmcity.apis.scenes.layers:read_layers", "paths", level=None, failures=None
    )
    axes = ("auto", "+x", "-x", "+y", "-y", "+z", "-z")
    add_function(parser, "mmcity.visualization.viewer.server:Viewer", up=axes, title=None)
    text = "read the paths, list the layers, do not serve"
    parser.add_argument("--check", action="store_true", help=text)


def run(args: argparse.Namespace) -> None:
    """Read, serve."""
    from mmcity.apis.scenes import read_layers
    from mmcity.utils.failures import ItemFailures

    failures = ItemFailures("paths")
    layers = read_layers(args.paths, args.config, drop_invalid=args.drop_invalid, failures=failures)
    if not layers:
        failures.check()
    for layer in layers:
        print(f"{layer.kind:12s} {layer.name}", flush=True)
    if args.check:
        failures.check()
        return

    from mmcity.visualization.viewer import Viewer

    viewer = Viewer(args.host, args.port, args.up, args.budget, origins=args.origins)
    is_camera = {"cameras", "localization"}  # drawn small beside what they see
    for layer in sorted(layers, key=lambda layer: layer.kind in is_camera):
        viewer.add_layer(layer)
    print(f"open {viewer.url} in a browser; end with Ctrl+C", flush=True)
    viewer.wait()
