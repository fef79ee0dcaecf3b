"""Show versions, libraries, operators and GPUs."""

import argparse

EXAMPLE = "mmcity info"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(args: argparse.Namespace) -> None:
    """Print the environment."""
    from mmcity.utils.cli import find_root
    from mmcity.utils.collect_env import collect_env

    info = {**collect_env(), "configs and tools": str(find_root())}
    width = max(map(len, info))
    for name, value in info.items():
        print(f"{name:{width}s}  {value}")
