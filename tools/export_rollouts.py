"""Export the latent planes of a VAE as rollouts, the training data of the diffusion stage.

``python tools/export_rollouts.py CONFIG CHECKPOINT --out DIR [--splits train test]``; under
``torchrun`` the clips are shared out over the processes. Files that exist are kept.
"""

import argparse
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Export HexPlane rollouts of a VAE")
    parser.add_argument("config", help="config of a HexPlaneVAE")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument("--out", required=True, help="folder; one sub-folder per split")
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
    parser.add_argument("--device", help="cuda or cpu")
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE")
    args = parser.parse_args(argv)
    if not set(args.flips) <= set(range(8)) or len(set(args.flips)) < len(args.flips):
        parser.error(f"--flips takes different numbers from 0 to 7, got {args.flips}")
    return args


def main(argv: list[str] | None = None) -> None:
    """Export every split."""
    args = parse_args(argv)

    import os

    import torch
    from mmengine.logging import print_log

    from mmcity.engine.checkpointing import load_checkpoint_weights
    from mmcity.engine.config_options import parse_options
    from mmcity.engine.dynamiccity.rollout_export import export_rollouts, without_augmentation
    from mmcity.engine.launch import load_config
    from mmcity.registry import DATASETS, MODELS

    cfg = load_config(args.config, parse_options(args.cfg_options))
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    model = MODELS.build(cfg.model)
    model.load_state_dict(load_checkpoint_weights(args.checkpoint), strict=True)
    model.to(device)
    for split in args.splits:
        dataset_cfg = without_augmentation(cfg[f"{split}_dataloader"].dataset)
        folder = Path(args.out) / split
        flips = args.flips if split == "train" else [0]
        index = export_rollouts(
            model, DATASETS.build(dataset_cfg), folder, args.layout_down, args.dtype, flips
        )
        print_log(f"{folder}: {len(index['windows'])} rollouts, txyz = {index['txyz']}")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
