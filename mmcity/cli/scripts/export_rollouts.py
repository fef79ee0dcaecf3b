"""Export the latent planes of a VAE as rollouts, the training data of the diffusion stage.

Under torchrun the clips are shared out over the processes. Files that exist are kept.
"""

import argparse

from mmcity.cli import flags

EXAMPLE = (
    "python tools/export_rollouts.py configs/dynamiccity/dynamiccity_vae_toytown_cpu.py"
    " work_dirs/dynamiccity_vae_toytown_cpu/iter_9000.pth --out data/rollout/toytown"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the export."""
    parser.add_argument("config", help="config of a HexPlaneVAE")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument(
        "--out", dest="out_dir", required=True, help="folder; one sub-folder per split"
    )
    parser.add_argument(
        "--splits",
        nargs="+",
        default=["train", "test"],
        choices=["train", "val", "test"],
        help="data loaders of the config to export",
    )
    parser.add_argument("--layout-down", type=int, default=4, help="reduction of the layout")
    parser.add_argument(
        "--flips",
        nargs="+",
        type=int,
        default=[0],
        metavar="N",
        help="write each clip of the train split once per flip: sums of 1 (x), 2 (y), 4 (time); "
        "0 2 5 7 quadruple the data and keep cars driving forwards; default: 0",
    )
    parser.add_argument("--dtype", default="float16", choices=["float16", "float32"])
    flags.add_device(parser)
    flags.add_cfg_options(parser)


def run(args: argparse.Namespace) -> None:
    """Export every split."""
    from mmcity.engine.dynamiccity import export_checkpoint_rollouts

    indices = export_checkpoint_rollouts(**flags.function_arguments(args))
    for folder, index in indices.items():
        print(f"{folder}: {len(index['windows'])} rollouts, txyz = {index['txyz']}")
