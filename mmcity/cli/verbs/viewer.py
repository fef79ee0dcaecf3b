"""Look at files of every stage in the browser.

Gaussians (ply, splat, spz, glb, 3D Tiles, checkpoints), meshes, point clouds, COLMAP and
Nerfstudio scenes, trajectories, reconstructed streams, localised queries, occupancy clips.
"""

import argparse

EXAMPLE = "mmcity viewer work_dirs/run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the viewer."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files or folders")
    parser.add_argument("--config", help="config of a checkpoint (.pth) among the paths")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=8080, help="the next free one is taken")
    parser.add_argument(
        "--up", default="+z", choices=["+x", "-x", "+y", "-y", "+z", "-z"],
        # argparse takes "-y" for an option, so that "--up=-y" has to be written
        help="axis that points up; --up=-y for COLMAP scenes that nobody has aligned",
    )  # fmt: skip
    parser.add_argument(
        "--budget", type=int, default=400_000, help="Gaussians that a browser may hold"
    )
    parser.add_argument(
        "--check", action="store_true", help="read the paths, list the layers, do not serve"
    )


def run(args: argparse.Namespace) -> None:
    """Read, serve."""
    from mmcity.apis.scenes import read_layers

    layers = read_layers(args.paths, args.config)
    for layer in layers:
        print(f"{layer.kind:12s} {layer.name}", flush=True)
    if args.check:
        return

    from mmcity.visualization.viewer import Viewer

    viewer = Viewer(args.host, args.port, args.up, args.budget)
    for layer in layers:
        viewer.add_layer(layer)
    print(f"open {viewer.url} in a browser; end with Ctrl+C", flush=True)
    viewer.wait()
