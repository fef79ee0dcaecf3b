"""Draw dumped results, or film a scene.

Of results: contact sheets of renders; cameras, bird's-eye view and 3D views of occupancy. Of a
scene: fly-through, depth and normals.
"""

import argparse
from pathlib import Path

from mmcity.cli import flags

EXAMPLE = "python tools/visualize.py RESULTS --out pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of drawing."""
    parser.add_argument(
        "source",
        type=Path,
        help="folder that `mmcity test --dump` wrote or one of its .npz or .pkl files, a config "
        "(then a checkpoint follows), or a .ply file",
    )
    parser.add_argument("checkpoint", nargs="?", help="checkpoint, where SOURCE is a config")
    parser.add_argument("--out", default="outputs/visualize", help="folder for the pictures")
    parser.add_argument("--max-rows", type=int, default=12, help="rows of one contact sheet")
    parser.add_argument(
        "--no-html", action="store_true", help="no interactive pages of occupancy results"
    )
    parser.add_argument("--frames", type=int, default=96, help="frames of the fly-through")
    parser.add_argument("--fps", type=float, default=24.0, help="its frames per second")
    parser.add_argument("--format", choices=["mp4", "gif"], default="mp4", help="of the film")
    parser.add_argument(
        "--long-side", type=int, default=640, help="longer side of rendered pictures in px"
    )
    parser.add_argument(
        "--cameras", help="COLMAP folder with the path's cameras; a .ply file holds none itself"
    )
    flags.add_cfg_options(parser)


def run(args: argparse.Namespace) -> None:
    """Draw."""
    options = flags.function_arguments(args)
    source, checkpoint, out, max_rows, no_html = (
        options.pop(name) for name in ("source", "checkpoint", "out", "max_rows", "no_html")
    )
    if source.is_dir() or source.suffix in (".npz", ".pkl"):
        from mmcity.visualization import draw_results

        files = draw_results(source, out, max_rows=max_rows, pages=not no_html)
    else:
        from mmcity.apis.scenes import film_scene
        from mmcity.utils.cli import UserError

        is_ply = source.suffix.lower() == ".ply"
        if not is_ply and checkpoint is None:
            raise UserError(f"{source}: expected a checkpoint behind a config, got none")
        scene = (source, None) if is_ply else (checkpoint, source)
        files = film_scene(scene[0], out, config=scene[1], **options)
    print(*files, sep="\n")
