"""Reconstruct a small scene and the toy town, and show what came out."""

import argparse

from mmcity.cli.options import add_function

EXAMPLE = "mmcity demo --out outputs/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the demonstration."""
    add_function(parser, "mmcity.workflow.demo:run_demo")


def run(args: argparse.Namespace) -> None:
    """Run the demonstration and print its table."""
    import time

    from mmcity.utils.markdown import markdown_table
    from mmcity.workflow.demo import run_demo

    start = time.time()
    rows = run_demo(**vars(args))
    head = list(dict.fromkeys(name for row in rows for name in row))
    print("\n" + markdown_table(head, ([row.get(name, "-") for name in head] for row in rows)))
    print(f"\nPictures, films and PLY files: {args.out}")
    print(f"The demo took {time.time() - start:.0f} s.")
