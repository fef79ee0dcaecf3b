"""Make maps of foundation models that GaussTR is trained with: depth, features or segmentation.

An interrupted run goes on where it stopped. Several processes share the work with
``--shard I/N``, or by themselves when torchrun or Slurm starts them.
"""

import argparse
import os

from mmcity.cli.options import add_function

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
    add_function(
        parser, "mmcity.apis.occupancy.foundation_maps.generate:generate_maps",
        kind=("depth", "features", "segmentation"), info_files="--infos", out_dir="--out",
        options=dict(nargs="+", type=_option, default=[], metavar="KEY=VALUE"),
        root=dict(default="data/nuscenes"), size=dict(type=_pair("x"), nargs=None),
        shard=dict(type=_pair("/"), nargs=None, default=None),
    )  # fmt: skip
    text = "only check that every image has a sound map"
    parser.add_argument("--check", action="store_true", help=text)


def run(args: argparse.Namespace) -> None:
    """Make or check the maps."""
    from mmcity.apis.occupancy.foundation_maps import check_maps, generate_maps

    given = vars(args)
    if given.pop("check"):
        place = (args.kind, args.model, args.info_files, args.root, args.out_dir)
        print(f"{args.out_dir}: {check_maps(*place, compress=args.compress)} maps are sound")
        return
    given.update(options=dict(args.options), shard=args.shard or _own_shard())
    written, images = generate_maps(**given)
    print(f"{args.out_dir}: {written} maps written, {images} images in all")
