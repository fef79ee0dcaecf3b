"""Test a model: ``python tools/test.py CONFIG CHECKPOINT``."""

import argparse
import json
import os
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; heavy libraries are imported only afterwards."""
    parser = argparse.ArgumentParser(description="Test a model that a config describes")
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "checkpoint",
        nargs="?",
        help="checkpoint file; leave it out (or give 'none') for a model that needs none",
    )
    parser.add_argument(
        "-C", "--checkpoint", dest="checkpoint_option", help="the same, as an option"
    )
    parser.add_argument("--work-dir", help="folder for logs")
    parser.add_argument("--out", help="file for results: .json for metrics, .pkl for predictions")
    parser.add_argument("--dump", metavar="DIR", help="folder for what each sample gives")
    parser.add_argument("--show-dir", metavar="DIR", help="folder for pictures of the results")
    parser.add_argument("--amp", action="store_true", help="test in mixed precision")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        metavar="KEY=VALUE",
        help="change values of the config, e.g. test_dataloader.batch_size=2 data_root=PATH",
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
    if args.checkpoint and args.checkpoint_option and args.checkpoint != args.checkpoint_option:
        parser.error("two different checkpoints were given")
    args.checkpoint = args.checkpoint_option or args.checkpoint
    if (args.checkpoint or "").lower() == "none":
        args.checkpoint = None
    if args.out and Path(args.out).suffix not in (".json", ".pkl", ".pickle"):
        parser.error(f"--out takes a .json or .pkl file, got {args.out}")
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    if args.unsafe_load:
        os.environ["MMCITY_UNSAFE_LOAD"] = "1"
    return args


def main(argv: list[str] | None = None) -> None:
    """Test."""
    args = parse_args(argv)

    from mmcity.utils import atomic_path, check_dependencies

    check_dependencies()

    from mmengine.dist import is_main_process

    from mmcity.engine import launch
    from mmcity.engine.distributed import setup_distributed

    cfg = launch.load_config(Path(args.config), launch.parse_options(args.cfg_options))
    launch.set_work_dir(cfg, args.work_dir)
    launch.apply_checkpoint(cfg, args.checkpoint)
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.dump:
        launch.apply_dump(cfg, args.dump)
    if args.show_dir:
        launch.apply_show(cfg, args.show_dir)
    if args.out and not args.out.endswith(".json"):
        launch.apply_prediction_file(cfg, args.out)
    setup_distributed(cfg, args.launcher)
    metrics = launch.build_runner(cfg).test()
    if args.out and args.out.endswith(".json") and is_main_process():
        with atomic_path(args.out) as path:
            path.write_text(json.dumps(metrics, indent=2, default=float) + "\n")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
