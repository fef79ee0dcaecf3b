"""Train a model: ``python tools/train.py CONFIG``."""

import argparse
import os
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; heavy libraries are imported only afterwards."""
    parser = argparse.ArgumentParser(description="Train a model that a config describes")
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="folder for logs and checkpoints")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="auto|PATH",
        help="continue from a checkpoint; without a path, from the newest in the work directory",
    )
    parser.add_argument("--amp", action="store_true", help="train in mixed precision")
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate with the batch size over all processes",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        metavar="KEY=VALUE",
        help="change values of the config, e.g. train_cfg.max_iters=100 data_root=PATH",
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="how the processes of a distributed run were started",
    )
    parser.add_argument(
        "--unsafe-load",
        action="store_true",
        help="also read checkpoints that may run code; only for files you trust",
    )
    # torch.distributed.launch passes --local-rank; torchrun sets the variable itself
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    args = parser.parse_args(argv)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    if args.unsafe_load:
        os.environ["MMCITY_UNSAFE_LOAD"] = "1"
    return args


def main(argv: list[str] | None = None) -> None:
    """Train."""
    args = parse_args(argv)

    from mmcity.utils import check_dependencies

    check_dependencies()

    from mmcity.engine import launch
    from mmcity.engine.distributed import setup_distributed

    cfg = launch.load_config(Path(args.config), launch.parse_options(args.cfg_options))
    launch.set_work_dir(cfg, args.work_dir)
    if args.amp:
        launch.apply_amp(cfg)
    if args.auto_scale_lr:
        launch.apply_auto_scale_lr(cfg)
    launch.apply_resume(cfg, args.resume)
    setup_distributed(cfg, args.launcher)
    launch.build_runner(cfg).train()


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
