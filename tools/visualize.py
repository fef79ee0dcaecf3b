"""Pictures of results: ``python tools/visualize.py RESULTS`` or ``... CONFIG CHECKPOINT``."""

import argparse
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; heavy libraries are imported only afterwards."""
    parser = argparse.ArgumentParser(
        description="Draw dumped results (contact sheets of renders; cameras, bird's-eye view and "
        "3D views of occupancy), or render a scene: fly-through, depth and normals"
    )
    parser.add_argument(
        "source",
        help="folder that tools/test.py --dump wrote or one of its .npz or .pkl files, a config "
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
    parser.add_argument(
        "--cfg-options", nargs="+", metavar="KEY=VALUE", help="change values of the config"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Draw."""
    args = parse_args(argv)
    source = Path(args.source)
    if source.is_dir():
        draw_results(source, Path(args.out), args.max_rows, not args.no_html)
    elif source.suffix in (".npz", ".pkl"):
        draw_occupancy([source], Path(args.out), not args.no_html)
    else:
        draw_scene(args)


def draw_occupancy(files: list[Path], out: Path, pages: bool = True) -> list[Path]:
    """Pictures and pages of dumped occupancy results; returns their paths."""
    from mmcity.visualization.occupancy_results import draw_occupancy_result

    written = []
    for file in files:
        written += draw_occupancy_result(file, out, pages)
        print(out / f"{file.stem}.png")
    return written


def draw_results(folder: Path, out: Path, max_rows: int, pages: bool = True) -> list[Path]:
    """Pictures of a folder of dumped results; returns their paths."""
    import numpy as np

    from mmcity.visualization import (
        colorize_depth,
        colorize_error,
        colorize_normals,
        contact_sheet,
        write_image,
    )
    from mmcity.visualization.occupancy_results import is_occupancy_result

    files = sorted(folder.glob("*.npz"))
    dumps = files or sorted(folder.glob("*.pkl"))
    if not dumps:
        raise SystemExit(f"error: {folder} holds no .npz or .pkl results; write them with --dump")
    if is_occupancy_result(dumps[0]):
        return draw_occupancy(dumps, out, pages)
    sheets = []
    for first in range(0, len(files), max_rows):
        rows, captions = [], []
        for file in files[first : first + max_rows]:
            with np.load(file, allow_pickle=False) as data:
                if "pred_image" not in data:
                    raise SystemExit(f"error: {file} holds no 'pred_image', so no picture")
                solid = data["pred_alpha"] > 0.5
                row = [data["pred_image"]]
                titles = ["render"]
                if "gt_image" in data:
                    error = colorize_error(data["pred_image"], data["gt_image"])
                    row, titles = [data["gt_image"], *row, error], ["photograph", "render", "error"]
                row.append(colorize_depth(data["pred_depth"], solid))
                titles.append("depth")
                if "pred_normal" in data:
                    row.append(colorize_normals(data["pred_normal"], solid))
                    titles.append("normals")
                numbers = [
                    f"{name} {float(data[f'metrics.{name}']):.{digits}f}"
                    for name, digits in (("psnr", 2), ("ssim", 3))
                    if f"metrics.{name}" in data
                ]
                rows.append(row)
                captions.append("  ".join([file.stem, *numbers]))
        path = out / f"contact_sheet_{len(sheets):02d}.png"
        write_image(path, contact_sheet(rows, titles, captions))
        sheets.append(path)
        print(path)
    return sheets


def draw_scene(args: argparse.Namespace) -> None:
    """Fly-through of a scene, with depth and normals of its middle view."""
    from mmcity.apis import SceneRenderer
    from mmcity.engine import launch
    from mmcity.visualization import (
        colorize_depth,
        colorize_normals,
        fly_through,
        write_image,
        write_video,
    )

    source, out = Path(args.source), Path(args.out)
    if source.suffix.lower() == ".ply":
        renderer = SceneRenderer(weights=source)
    else:
        if args.checkpoint is None:
            raise SystemExit("error: a config needs a checkpoint behind it")
        config = launch.load_config(source, launch.parse_options(args.cfg_options))
        renderer = SceneRenderer(config, args.checkpoint)
    cameras = _path_cameras(args.cameras) if args.cameras else renderer.training_cameras
    if cameras is None:
        raise SystemExit("error: a .ply file holds no cameras: name a COLMAP folder by --cameras")
    width, height = int(cameras.widths[0]), int(cameras.heights[0])
    path = fly_through(cameras, args.frames).scale(args.long_side / max(width, height))
    film = out / f"fly_through.{args.format}"
    frames = (picture["rgb"] for picture in renderer.iterate(path))
    print(f"{film}: {write_video(film, frames, args.fps)} frames")
    middle = next(renderer.iterate(path[len(path) // 2]))
    solid = middle["alpha"] > 0.5
    for name, picture in (
        ("view", middle["rgb"]),
        ("depth", colorize_depth(middle["depth"], solid)),
        ("normals", colorize_normals(middle["normals"], solid)),
    ):
        write_image(out / f"{name}.png", picture)
        print(out / f"{name}.png")


def _path_cameras(folder: str):
    from mmcity.datasets import ColmapDataset

    return ColmapDataset(folder, split="all", require_points=False).cameras


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
