"""Runs tests on the virtual device: ``python tests/rig/run.py [SETTINGS] pytest ARGS``."""

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.rig.harness import REPO, environment


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="see README.md")
    parser.add_argument("what", choices=["pytest"])
    parser.add_argument("args", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    settings = dict(pair.lower().split("=", 1) for pair in args.set)
    env = environment(args.devices, **settings)
    command = [sys.executable, "-m", "pytest", "-p", "virtual_cuda.plugin", *args.args]
    return subprocess.run(command, cwd=REPO, env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
