"""``python -m mmcity_ops.build``: compile the native libraries before they are needed."""

import argparse
import shutil
import sys
from pathlib import Path

from mmcity_ops import _build, _build_cuda


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m mmcity_ops.build", description=__doc__)
    parser.add_argument("--cuda", action="store_true", help="also build the CUDA library")
    parser.add_argument(
        "--arch", default=None, help="CUDA architectures, for example '80;90;120' (default: auto)"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="only compile each .cu for each architecture, warnings as errors, and print "
        "registers and spills",
    )
    parser.add_argument(
        "--package",
        action="store_true",
        help=f"copy the built libraries to {_build.PREBUILT}, where a wheel takes them from",
    )
    return parser.parse_args(argv)


def print_check(archs: tuple[str, ...]) -> None:
    """Print one line for each kernel and architecture."""
    if _build_cuda.find_nvcc() is None:
        print("skipped: nvcc was not found (set MMCITY_NVCC or CUDA_HOME)")
        return
    if not _build_cuda.kernel_sources():
        print("skipped: there is no .cu file")
        return
    report = _build_cuda.check_cuda(archs)
    print(f"{'file':28} {'arch':>6} {'regs':>5} {'spill B':>8} {'smem B':>7}  kernel")
    for name, per_arch in report.items():
        for arch, usages in per_arch.items():
            for use in usages:
                print(
                    f"{name:28} sm_{arch:>3} {use.registers:5} {use.spill_bytes:8} "
                    f"{use.shared_bytes:7}  {use.kernel}"
                )


def main(argv: list[str] | None = None) -> int:
    """Build or check the libraries; the exit status."""
    args = parse_args(argv)
    archs = tuple(args.arch.replace(",", ";").split(";")) if args.arch else None
    try:
        if args.check:
            print_check(archs or _build_cuda.DEFAULT_ARCHS)
            return 0
        built: list[Path] = [_build.build_cpu()]
        if args.cuda:
            built.append(_build_cuda.build_cuda(archs))
    except _build.BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in built:
        if args.package:
            _build.PREBUILT.mkdir(exist_ok=True)
            target = _build.PREBUILT / path.name
            temporary = target.with_suffix(".tmp")
            shutil.copyfile(path, temporary)
            temporary.replace(target)
            path = target
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
