"""List published weights by the names that stand for a checkpoint."""

import argparse

EXAMPLE = "mmcity weights list"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of listing."""
    parser.add_argument("what", nargs="?", help="part of a name")


def run(args: argparse.Namespace) -> None:
    """Print them."""
    from mmcity.utils.published_weights import how_to_get, read_weights_index

    for name, weights in read_weights_index().items():
        if args.what is None or args.what.lower() in name:
            here = weights.path.is_file()
            print(weights)
            print(f"  {f'here: {weights.path}' if here else how_to_get(weights)}")
            if weights.config:
                print(f"  for config {weights.config}")
            if weights.instead:
                print(f"  without it: {weights.instead}")
