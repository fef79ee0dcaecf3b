"""Measure parts of the toolbox: ``python tools/benchmark.py PART [options]``.

Every part is a module of ``tools/analysis_tools`` named ``benchmark_<part>`` with
``add_arguments(parser)`` and ``run(args)``.
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

# Threads that wait must not burn CPU time where that is measured. Wall time is measured as users
# meet it: waiting threads spin for a moment, which spares them falling asleep between small loops.
if "wall" not in sys.argv:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

FOLDER = Path(__file__).resolve().parent / "analysis_tools"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    for path in sorted(FOLDER.glob("benchmark_*.py")):
        module = importlib.import_module(f"analysis_tools.{path.stem}")
        summary = (module.__doc__ or "").strip().splitlines()[0]
        part = parts.add_parser(path.stem.removeprefix("benchmark_"), help=summary)
        module.add_arguments(part)
        part.set_defaults(run=module.run)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
