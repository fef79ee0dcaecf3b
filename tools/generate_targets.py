"""Maps of foundation models that GaussTR is trained with: depth, features or segmentation.

``python tools/generate_targets.py --kind depth --model metric3d --infos data/nuscenes/*.pkl
--root data/nuscenes --out data/nuscenes_metric3d --options repo=DIR weights=FILE``

An interrupted run goes on where it stopped. Several processes share the work with
``--shard I/N``, or by themselves when torchrun or Slurm starts them.
"""

import argparse
import os
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Make depth, feature or label maps of images")
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
        "--options", nargs="+", default=[], metavar="KEY=VALUE",
        help="arguments of the model, such as repo=DIR weights=FILE",
    )  # fmt: skip
    parser.add_argument("--size", help="HEIGHTxWIDTH to store depth and labels at")
    parser.add_argument("--compress", action="store_true", help="write .npz instead of .npy")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--shard", help="I/N: take the I-th (from 0) of N parts")
    parser.add_argument(
        "--check", action="store_true", help="only check that every image has a sound map"
    )
    args = parser.parse_args(argv)
    try:
        args.options = dict(option.split("=", 1) for option in args.options)
        args.shard = tuple(map(int, args.shard.split("/"))) if args.shard else _own_shard()
        args.size = tuple(map(int, args.size.lower().split("x"))) if args.size else None
        if len(args.shard) != 2 or (args.size is not None and len(args.size) != 2):
            raise ValueError("two numbers are needed")
    except ValueError as error:
        parser.error(f"--options takes KEY=VALUE, --shard I/N and --size HxW ({error})")
    return args


def _own_shard() -> tuple[int, int]:
    """This process's part, if torchrun or Slurm started several."""
    for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if rank in os.environ and world in os.environ:
            return int(os.environ[rank]), int(os.environ[world])
    return 0, 1


def main(argv: list[str] | None = None) -> None:
    """Make or check the maps."""
    args = parse_args(argv)

    from mmcity.apis.occupancy.foundation_maps import (
        STORED_DTYPES,
        collect_images,
        generate_targets,
        make_provider,
        provider_names,
    )
    from mmcity.datasets.io.map_store import MapStore

    if args.model not in provider_names(args.kind):
        raise SystemExit(
            f"error: no model '{args.model}' for {args.kind}, known: {provider_names(args.kind)}"
        )
    tasks = collect_images(args.infos, args.root)
    meta = {"kind": args.kind, "model": args.model}
    store = MapStore(Path(args.out), STORED_DTYPES[args.kind], args.compress, meta)
    if args.check:
        print(f"{args.out}: {store.check(task.name for task in tasks)} maps are sound")
        return
    written = generate_targets(
        tasks,
        lambda: make_provider(args.kind, args.model, args.options, args.device),
        store,
        args.shard,
        args.size,
    )
    print(f"{args.out}: {written} maps written, {len(tasks)} images in all")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
