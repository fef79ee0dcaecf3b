"""Train a model that a config describes."""

import argparse

from mmcity.cli import flags
from mmcity.cli.options import command

EXAMPLE = "mmcity train configs/citygsx/citygsx_toytown_cpu.py --work-dir work_dirs/town"


_add_options, run = command(
    "mmcity.engine.launch:train", "config", None, launcher=None,
    resume=dict(nargs="?", const="auto", metavar="auto|PATH"),
    cfg_options=dict(example="train_cfg.max_iters=100 data_root=PATH"),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of training."""
    _add_options(parser)
    flags.add_launcher(parser)
    flags.add_unsafe_load(parser)
