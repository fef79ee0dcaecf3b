"""Medians, means and recalls of localisation runs in one table.

Seeds of a scene stand together, averages over scenes follow.
"""

import argparse

from mmcity.utils.fileio import write_text

EXAMPLE = "python tools/localization_table.py RESULTS [RESULTS ...]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the table."""
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


def run(args: argparse.Namespace) -> None:
    """Print the table."""
    from mmcity.apis import localization_table, read_report
    from mmcity.utils.failures import ItemFailures

    recalls = [tuple(pair) for pair in args.recall or ((0.05, 5.0), (0.25, 2.0))]
    reports, failures = [], ItemFailures("results")
    for path in args.results:
        with failures.item(path):
            reports.append(read_report(path))
    if reports:
        table = localization_table(reports, recalls, args.min_seeds)
        print(table)
        if args.out is not None:
            write_text(args.out, table + "\n")
    failures.check()
