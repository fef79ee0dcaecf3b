"""Reconstruct camera path, depth maps and points of a folder, video or camera."""

import argparse

from mmcity.cli import flags
from mmcity.cli.options import add_function

EXAMPLE = "mmcity stream video.mp4 --out out --checkpoint checkpoints/streamvggt_1b.pth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of streaming, and of the reconstructor."""
    add_function(
        parser, "mmcity.apis.streaming.stream_source:stream_source", "sources",
        config=dict(default="configs/streamvggt/streamvggt_1b.py"), save_depth="--no-depth",
        decoder=("opencv", "pyav"), formats=dict(choices=("ply", "glb")),
        viewer_port=dict(flags="--viewer", nargs="?", const=8080, metavar="PORT"),
    )  # fmt: skip
    add_function(
        parser, "mmcity.apis.streaming.streaming_reconstructor:StreamingReconstructor", config=None,
        checkpoint=None, callbacks=None, show_progress=None, dtype=("fp32", "bf16", "fp16"),
        cache_dtype=("fp32", "bf16", "fp16", "fp8", "int8"),
        camera_cache_mode=("per_iteration", "upstream"), resize=("crop", "pad", "eval"),
        use_proj=dict(flags="--point-head", help="points of the point head, not of the depth"),
    )  # fmt: skip
    flags.add_random_weights(parser)


def run(args: argparse.Namespace) -> None:
    """Reconstruct."""
    from mmcity.utils import check_dependencies

    check_dependencies()

    from mmcity.apis.streaming import stream_source

    print(f"wrote {stream_source(**vars(args))}")
