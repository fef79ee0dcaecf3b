"""Make maps of foundation models that GaussTR is trained with: depth, features or segmentation.

An interrupted run goes on where it stopped. Several processes share the work with
``--shard I/N``, or by themselves when torchrun or Slurm starts them.
"""

import argparse
import os

from mmcity.cli import flags

EXAMPLE = (
    "python tools/generate_targets.py --kind depth --model metric3d"
    " --infos data/nuscenes/nuscenes_infos_val.pkl --root data/nuscenes"
    " --out data/nuscenes_metric3d --options repo=DIR weights=FILE"
)


def _option(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text}")
    return key, value


def _pair(separator: str):
    def read(text: str) -> tuple[int, ...]:
        numbers = text.lower().split(separator)
        if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
            raise argparse.ArgumentTypeError(f"expected NUMBER{separator}NUMBER, got {text}")
        return tuple(map(int, numbers))

    return read


def _own_shard() -> tuple[int, int]:
    """This process's part, if torchrun or Slurm started several."""
    for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if rank in os.environ and world in os.environ:
            return int(os.environ[rank]), int(os.environ[world])
    return 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of map making."""
    parser.add_argument("--kind", required=True, choices=["depth", "features", "segmentation"])
    parser.add_argument(
        "--model",
        required=True,
        help="metric3d, lidar, featup, grounded_sam2, or toytown for any kind",
    )
    parser.add_argument("--infos", nargs="+", required=True, help="info files with the images")
    parser.add_argument("--root", default="data/nuscenes", help="folder of nuScenes")
    parser.add_argument("--out", required=True, help="folder of the maps")
    parser.add_argument(
        "--options", nargs="+", type=_option, default=[], metavar="KEY=VALUE",
        help="arguments of the model, such as repo=DIR weights=FILE",
    )  # fmt: skip
    parser.add_argument("--size", type=_pair("x"), help="HEIGHTxWIDTH to store depth and labels at")
    parser.add_argument("--compress", action="store_true", help="write .npz instead of .npy")
    flags.add_device(parser, "cpu")
    parser.add_argument("--shard", type=_pair("/"), help="I/N: take the I-th (from 0) of N parts")
    parser.add_argument(
        "--check", action="store_true", help="only check that every image has a sound map"
    )


def run(args: argparse.Namespace) -> None:
    """Make or check the maps."""
    from mmcity.apis.occupancy.foundation_maps import check_maps, generate_maps

    place = (args.kind, args.model, args.infos, args.root, args.out)
    if args.check:
        print(f"{args.out}: {check_maps(*place, compress=args.compress)} maps are sound")
        return
    written, images = generate_maps(
        *place,
        options=dict(args.options),
        size=args.size,
        compress=args.compress,
        device=args.device,
        shard=args.shard or _own_shard(),
    )
    print(f"{args.out}: {written} maps written, {images} images in all")
