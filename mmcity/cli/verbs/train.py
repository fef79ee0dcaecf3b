"""Train a model that a config describes."""

import argparse

from mmcity.cli import flags
from mmcity.cli.options import command

EXAMPLE = "mmcity train configs/citygsx/citygsx_toytown_cpu.py --work-dir work_dirs/town"


_add_options, _train = command(
    "mmcity.engine.launch:train", "config", None, launcher=None,
    resume=dict(nargs="?", const="auto", metavar="auto|PATH"),
    cfg_options=dict(example="train_cfg.max_iters=100 data_root=PATH"),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of training."""
    _add_options(parser)
    flags.add_launcher(parser)
    flags.add_unsafe_load(parser)
    flags.add_random_weights(parser)
    parser.add_argument(
        "--estimate",
        nargs="?",
        const="24GB",
        metavar="GPU_MEMORY",
        help="only tell what the training needs, as mmcity dry-run does; default: 24GB",
    )


def run(args: argparse.Namespace) -> None:
    """Train, or tell what it would need."""
    if (memory := vars(args).pop("estimate")) is None:
        _train(args)
        return
    from mmcity.engine.dry_run import dry_run

    options = {name: flags.function_arguments(args)[name] for name in ("amp", "cfg_options")}
    print(dry_run(args.config, gpu_memory=memory, **options))
