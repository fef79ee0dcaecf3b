"""Draw dumped results, or film a scene.

Of results: contact sheets of renders; cameras, bird's-eye view and 3D views of occupancy. Of a
scene: fly-through, depth and normals.
"""

import argparse
from pathlib import Path

from mmcity.cli import flags
from mmcity.cli.options import add_function

EXAMPLE = "python tools/visualize.py RESULTS --out pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of drawing."""
    parser.add_argument(
        "source", type=Path,
        help="folder that `mmcity test --dump` wrote or one of its .npz or .pkl files, a config "
        "(then a checkpoint follows), or a .ply file",
    )  # fmt: skip
    parser.add_argument("checkpoint", nargs="?", help="checkpoint, where SOURCE is a config")
    results, film = "mmcity.visualization.dumped_results", "mmcity.apis.scenes.film_scene"
    add_function(parser, f"{results}:draw_results", source=None, pages="--no-html")
    formats = ("mp4", "gif")
    add_function(parser, f"{film}:film_scene", weights=None, out=None, config=None, format=formats)


def run(args: argparse.Namespace) -> None:
    """Draw."""
    options = flags.function_arguments(args)
    source, checkpoint, out, max_rows, pages = (
        options.pop(name) for name in ("source", "checkpoint", "out", "max_rows", "pages")
    )
    if source.is_dir() or source.suffix in (".npz", ".pkl"):
        from mmcity.visualization import draw_results

        files = draw_results(source, out, max_rows=max_rows, pages=pages)
    else:
        from mmcity.apis.scenes import film_scene
        from mmcity.utils.cli import UserError

        is_ply = source.suffix.lower() == ".ply"
        if not is_ply and checkpoint is None:
            raise UserError(f"{source}: expected a checkpoint behind a config, got none")
        scene = (source, None) if is_ply else (checkpoint, source)
        files = film_scene(scene[0], out, config=scene[1], **options)
    print(*files, sep="\n")
