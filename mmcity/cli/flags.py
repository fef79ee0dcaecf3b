"""Options that several commands share, each defined once."""

import argparse
import os
from typing import Any


def add_cfg_options(parser: argparse.ArgumentParser, example: str = "data_root=PATH") -> None:
    """``--cfg-options KEY=VALUE ...``."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        metavar="KEY=VALUE",
        help=f"change values of the config, e.g. {example}",
    )


def add_work_dir(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """``--work-dir DIR``."""
    parser.add_argument("--work-dir", default=default, help="folder for logs and checkpoints")


def add_device(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """``--device DEVICE``."""
    shown = default or "cuda where there is one, else cpu"
    parser.add_argument("--device", default=default, help=f"cpu or cuda[:N]; default: {shown}")


def add_amp(parser: argparse.ArgumentParser) -> None:
    """``--amp``."""
    parser.add_argument("--amp", action="store_true", help="run in mixed precision")


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """``--launcher`` and the rank within a machine that some launchers pass on."""
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="how the processes of a distributed run were started",
    )
    # torch.distributed.launch passes --local-rank; torchrun sets the variable itself
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)


def add_unsafe_load(parser: argparse.ArgumentParser) -> None:
    """``--unsafe-load``."""
    parser.add_argument(
        "--unsafe-load",
        action="store_true",
        help="also read checkpoints that may run code; only for files you trust",
    )


def add_random_weights(parser: argparse.ArgumentParser) -> None:
    """``--random-weights``."""
    parser.add_argument(
        "--random-weights",
        action="store_true",
        help="go on where trained weights are missing, with random numbers, to try things out",
    )


def apply_shared_flags(args: argparse.Namespace) -> None:
    """Set what the libraries read from the environment, before they are imported.

    The options that say so are taken out of ``args``.
    """
    if "local_rank" in args:
        os.environ.setdefault("LOCAL_RANK", str(vars(args).pop("local_rank")))
    if vars(args).pop("unsafe_load", False):
        os.environ["MMCITY_UNSAFE_LOAD"] = "1"
    if vars(args).pop("random_weights", False):
        os.environ["MMCITY_RANDOM_WEIGHTS"] = "1"


def function_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Options of a command, named as the arguments of the function that it calls.

    Those that end in ``_options`` (KEY=VALUE ...) become a dict.
    """
    options = dict(vars(args))
    texts = [name for name in options if name.endswith("_options")]
    if texts:  # the engine is slow to import, and most commands do without
        from mmcity.engine.config_options import parse_options

        options.update({name: parse_options(options[name]) for name in texts})
    return options
