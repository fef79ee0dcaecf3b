"""Look at results in the browser: ``python tools/viewer.py PATH...``."""

import argparse
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Serve a 3D view of files of every stage: Gaussians (ply, splat, spz, glb, "
        "3D Tiles, checkpoints), meshes, point clouds, COLMAP and Nerfstudio scenes, "
        "trajectories, reconstructed streams, localised queries, occupancy clips"
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files or folders")
    parser.add_argument("--config", help="config of a checkpoint (.pth) among the paths")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=8080, help="the next free one is taken")
    parser.add_argument(
        "--up", default="+z", choices=["+x", "-x", "+y", "-y", "+z", "-z"],
        help="axis that points up; -y for COLMAP scenes that nobody has aligned",
    )  # fmt: skip
    parser.add_argument(
        "--budget", type=int, default=400_000, help="Gaussians that a browser may hold"
    )
    parser.add_argument(
        "--check", action="store_true", help="read the paths, list the layers, do not serve"
    )
    args = parser.parse_args(argv)
    # argparse would take "-y" for an option, so that "--up=-y" has to be written.
    return args


def read_layers(paths: list[str], config: str | None) -> list:
    """Layers of all paths, in order."""
    from mmcity.visualization.viewer import Layer, open_layers

    layers = []
    for path in paths:
        if path.endswith(".pth"):
            layers.append(Layer(Path(path).stem, "gaussians", read_checkpoint(path, config)))
        else:
            layers += open_layers(path)
    return layers


def read_checkpoint(path: str, config: str | None):
    """Gaussians of a trained scene."""
    import torch

    from mmcity.engine.scene_loading import load_scene
    from mmcity.utils.cli import UserError
    from mmcity.utils.setup_env import register_all_modules

    if config is None:
        raise UserError(f"{path} is a checkpoint: give its --config too")
    register_all_modules()
    with torch.no_grad():
        return load_scene(path, config).to_gaussians()


def main(argv: list[str] | None = None) -> None:
    """Read, serve."""
    args = parse_args(argv)
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


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
