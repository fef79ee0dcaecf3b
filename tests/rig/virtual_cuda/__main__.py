"""``python -m virtual_cuda [--record FILE] [--steps FUNCTION] SCRIPT ARGS...``

Runs a script (or ``-m MODULE``) as ``__main__`` on the virtual device. ``--record`` writes as JSON
what made the host wait and the peak memory, each step apart where ``--steps`` names a function.
"""

import argparse
import importlib
import json
import os
import runpy
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="virtual_cuda", description=__doc__)
    parser.add_argument("--record", type=Path, help="JSON file of waits, launches and memory")
    parser.add_argument("--within", default="mmcity,/ops/", help="files whose lines are named")
    parser.add_argument("--steps", help="module:Class.method of one step")
    parser.add_argument("--skip", type=int, default=1, help="first steps that are left out")
    parser.add_argument("--count", type=int, default=1 << 30, help="steps that are recorded")
    parser.add_argument("-m", dest="module", action="store_true", help="SCRIPT is a module")
    parser.add_argument("script")
    parser.add_argument("args", nargs=argparse.REMAINDER)
    args = parser.parse_args()

    import virtual_cuda

    record = virtual_cuda.Record(args.within.split(","), launches=args.record is not None)
    calls, peaks = 0, []
    if args.steps:
        module, _, path = args.steps.partition(":")
        owner, method = path.split(".")
        owner = getattr(importlib.import_module(module), owner)
        plain = getattr(owner, method)

        def step(*a, **k):
            nonlocal calls
            calls += 1
            if not args.skip < calls <= args.skip + args.count:
                return plain(*a, **k)
            virtual_cuda.reset_peak()
            with record:
                result = plain(*a, **k)
            peaks.append(virtual_cuda.memory().peak)
            return result

        setattr(owner, method, step)
    sys.argv = [args.script, *args.args]

    def execute() -> None:
        if args.module:
            runpy.run_module(args.script, run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, os.path.dirname(os.path.abspath(args.script)))
            runpy.run_path(args.script, run_name="__main__")

    try:
        if args.steps or not args.record:
            execute()
        else:
            with record:
                execute()
            peaks.append(virtual_cuda.memory().peak)
    finally:
        if args.record and int(os.environ.get("RANK", "0")) == 0:
            args.record.write_text(json.dumps(record.summary(max(1, len(peaks)), peaks), indent=1))


main()
