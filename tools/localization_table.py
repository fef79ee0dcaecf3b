"""One table of localisation runs: ``python tools/localization_table.py DIR [DIR ...]``."""

import argparse
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Medians, means and recalls of runs of tools/localize.py: per scene with "
        "seeds together, and averages over scenes"
    )
    parser.add_argument("results", nargs="+", help="results.json files, or folders with one")
    parser.add_argument(
        "--recall", type=float, nargs=2, action="append", metavar=("METRES", "DEG"),
        help="pair of thresholds; may be given more than once (default: 0.05 5 and 0.25 2)",
    )  # fmt: skip
    parser.add_argument(
        "--min-seeds", type=int, default=1, metavar="N",
        help="refuse rows of fewer seeds; differences of one seed say little (use 3 and more)",
    )  # fmt: skip
    parser.add_argument("--out", help="also write the table there")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    args = parse_args(argv)
    from mmcity.apis import localization_table, read_report
    from mmcity.utils.fileio import atomic_path

    recalls = [tuple(pair) for pair in args.recall or ((0.05, 5.0), (0.25, 2.0))]
    table = localization_table(
        [read_report(path) for path in args.results], recalls, args.min_seeds
    )
    print(table)
    if args.out is not None:
        with atomic_path(args.out) as temporary:
            Path(temporary).write_text(table + "\n")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
