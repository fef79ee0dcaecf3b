"""Make a toy town and write it in the file formats that the systems read."""

import argparse

EXAMPLE = "mmcity data toytown --out data/toytown --formats citygsx --size tiny"

FORMATS = ("carlasc", "citygsx", "colmap_loc", "nuscenes", "occ3d_waymo", "video")
SIZES = ("tiny", "small", "medium")
LIGHTINGS = ("day", "overcast", "evening")


def _image_size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, got {text!r}")
    return int(parts[0]), int(parts[1])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the town, and of its formats."""
    parser.add_argument("--out", required=True, help="folder; each format goes into one below it")
    parser.add_argument(
        "--formats", nargs="+", choices=FORMATS, metavar="FMT",
        help=f"what to write: {', '.join(FORMATS)} (default: all)",
    )  # fmt: skip
    parser.add_argument("--size", default="tiny", choices=SIZES, help="extent and counts")
    parser.add_argument("--seed", type=int, default=0, help="world seed: the static city")
    parser.add_argument(
        "--sequence-seed", type=int, default=0, help="traffic and paths of the sensors"
    )
    parser.add_argument(
        "--image-size", type=_image_size, help="WIDTHxHEIGHT instead of the preset of the size"
    )
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
        "--workers", type=int, help="processes that render (default: one per core, 8 at most)"
    )
    parser.add_argument("--scenes", type=int, help="drives of carlasc, nuscenes and occ3d_waymo")
    parser.add_argument("--frames", type=int, help="frames of each of these drives, or videos")
    parser.add_argument(
        "--no-sweeps", action="store_true", help="nuscenes: no lidar between key frames"
    )
    parser.add_argument(
        "--feature-patch", type=int, help="nuscenes: pixels per cell of the feature maps (8)"
    )


def run(args: argparse.Namespace) -> None:
    """Write each format and say where it lies."""
    from mmcity.toytown import ToytownConfig
    from mmcity.toytown.writers import write_formats

    config = ToytownConfig(
        seed=args.seed,
        size=args.size,
        sequence_seed=args.sequence_seed,
        traffic=args.traffic,
        lighting=args.lighting,
        supersampling=args.supersampling,
    )
    drives = {"num_scenes": args.scenes, "num_frames": args.frames}
    sweeps = False if args.no_sweeps else None
    options = {
        "video": {
            "num_sequences": args.sequences, "num_frames": args.frames, "paths": args.paths,
        },
        "colmap_loc": {
            "num_mapping": args.mapping_images, "num_queries": args.queries,
            "spacing": args.spacing,
        },
        "carlasc": drives,
        "occ3d_waymo": drives,
        "nuscenes": {**drives, "sweeps": sweeps, "feature_patch": args.feature_patch},
        "citygsx": {"num_images": args.num_images},
    }  # fmt: skip
    write_formats(
        args.out,
        config,
        args.formats,
        image_size=args.image_size,
        workers=args.workers,
        options={
            name: {key: value for key, value in given.items() if value is not None}
            for name, given in options.items()
        },
    )
