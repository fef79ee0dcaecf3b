"""Make a toy town and write it in the file formats that the systems read.

python tools/dataset_converters/create_toytown.py --out data/toytown --formats citygsx
"""

import argparse
import time
from pathlib import Path

from mmcity.toytown.world.config import LIGHTINGS, SIZES, ToytownConfig
from mmcity.toytown.writers import WRITERS
from mmcity.toytown.writers.common import default_workers


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="folder; each format goes into one below it")
    parser.add_argument(
        "--formats", nargs="+", default=sorted(WRITERS), choices=sorted(WRITERS), metavar="FMT",
        help=f"what to write: {', '.join(sorted(WRITERS))} (default: all)",
    )  # fmt: skip
    parser.add_argument("--size", default="tiny", choices=list(SIZES), help="extent and counts")
    parser.add_argument("--seed", type=int, default=0, help="world seed: the static city")
    parser.add_argument(
        "--sequence-seed", type=int, default=0, help="traffic and paths of the sensors"
    )
    parser.add_argument("--image-size", help="WIDTHxHEIGHT instead of the preset of the size")
    parser.add_argument("--mapping-images", type=int, help="colmap_loc: instead of the preset")
    parser.add_argument("--queries", type=int, help="colmap_loc: instead of the preset")
    parser.add_argument("--spacing", type=float, help="colmap_loc: metres per mapping image")
    parser.add_argument("--num-images", type=int, help="citygsx: instead of the preset")
    parser.add_argument("--sequences", type=int, help="videos of the video format")
    parser.add_argument(
        "--paths",
        nargs="+",
        metavar="KIND",
        help="of the videos in turn: drive, walk, orbit, glide, surround",
    )
    parser.add_argument("--traffic", type=float, default=1.0, help="density of what moves")
    parser.add_argument(
        "--supersampling", type=int, default=4, choices=[1, 4, 16], help="rays per pixel on edges"
    )
    parser.add_argument("--lighting", default="day", choices=LIGHTINGS)
    parser.add_argument(
        "--workers", type=int, default=default_workers(), help="processes that render"
    )
    parser.add_argument("--scenes", type=int, help="drives of carlasc, nuscenes and occ3d_waymo")
    parser.add_argument("--frames", type=int, help="frames of each of these drives, or videos")
    parser.add_argument(
        "--no-sweeps", action="store_true", help="nuscenes: no lidar between key frames"
    )
    parser.add_argument(
        "--feature-patch", type=int, help="nuscenes: pixels per cell of the feature maps (8)"
    )
    args = parser.parse_args()
    if args.image_size is not None:
        parts = args.image_size.lower().split("x")
        if len(parts) != 2 or not all(p.isdigit() and int(p) > 0 for p in parts):
            parser.error(f"--image-size: expected WIDTHxHEIGHT, got {args.image_size!r}")
        args.image_size = (int(parts[0]), int(parts[1]))
    return args


def main() -> None:
    """Write each format and say where it lies."""
    args = parse_args()
    config = ToytownConfig(
        seed=args.seed,
        size=args.size,
        sequence_seed=args.sequence_seed,
        traffic=args.traffic,
        lighting=args.lighting,
        supersampling=args.supersampling,
    )
    counts = {
        "video": {
            "num_sequences": args.sequences, "num_frames": args.frames, "paths": args.paths,
        },
        "colmap_loc": {
            "num_mapping": args.mapping_images, "num_queries": args.queries,
            "spacing": args.spacing,
        },
        "carlasc": {"num_scenes": args.scenes, "num_frames": args.frames},
        "occ3d_waymo": {"num_scenes": args.scenes, "num_frames": args.frames},
        "nuscenes": {
            "num_scenes": args.scenes, "num_frames": args.frames,
            "sweeps": False if args.no_sweeps else None, "feature_patch": args.feature_patch,
        },
        "citygsx": {"num_images": args.num_images},
    }  # fmt: skip
    for name in args.formats:
        start = time.perf_counter()
        given = {key: value for key, value in counts.get(name, {}).items() if value is not None}
        folder = WRITERS[name](
            Path(args.out) / name,
            config,
            image_size=args.image_size,
            workers=args.workers,
            **given,
        )
        print(f"{name}: {folder} ({time.perf_counter() - start:.1f} s)")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
