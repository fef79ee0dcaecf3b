"""Reconstruct camera path, depth maps and points of a folder, video or camera."""

import argparse

from mmcity.cli import flags

EXAMPLE = "mmcity stream video.mp4 --out out --checkpoint checkpoints/streamvggt_1b.pth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of streaming."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="INPUT",
        help="folder of images, video file, or webcam:NUMBER; several are the cameras of a rig",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--config", default="configs/streamvggt/streamvggt_1b.py")
    flags.add_checkpoint(parser, "weights; without them the results mean nothing")
    flags.add_device(parser)
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16", "fp16"])
    parser.add_argument(
        "--policy",
        help="what the cache keeps: full, window(N), knn(N), chunk(N, OVERLAP), "
        "diversity(TOKENS), query(TOKENS), attention(TOKENS)",
    )
    parser.add_argument("--cache-dtype", choices=["fp32", "bf16", "fp16", "fp8", "int8"])
    parser.add_argument("--camera-cache-mode", choices=["per_iteration", "upstream"])
    parser.add_argument("--image-size", type=int, help="longest side the network sees")
    parser.add_argument("--resize", default="crop", choices=["crop", "pad", "eval"])
    parser.add_argument(
        "--decoder", default="opencv", choices=["opencv", "pyav"], help="of videos and cameras"
    )
    parser.add_argument("--stride", type=int, default=1, help="take every n-th frame")
    parser.add_argument("--max-frames", type=int)
    parser.add_argument(
        "--point-head",
        dest="use_proj",
        action="store_false",
        help="points of the point head, not of the depth",
    )
    parser.add_argument(
        "--percentile", type=float, default=50.0, help="of confidence, below it points are left out"
    )
    parser.add_argument("--max-points", type=int, default=1_000_000)
    parser.add_argument("--formats", nargs="+", default=["ply"], choices=["ply", "glb"])
    parser.add_argument(
        "--viewer",
        dest="viewer_port",
        type=int,
        nargs="?",
        const=8080,
        metavar="PORT",
        help="show the reconstruction in the browser while it grows",
    )
    parser.add_argument(
        "--no-depth", dest="save_depth", action="store_false", help="do not write depth maps"
    )


def run(args: argparse.Namespace) -> None:
    """Reconstruct."""
    from mmcity.utils import check_dependencies

    check_dependencies()

    from mmcity.apis.streaming import stream_source

    if args.checkpoint is None:
        print("warning: no --checkpoint given, the weights are random", flush=True)
    print(f"wrote {stream_source(**flags.function_arguments(args))}")
