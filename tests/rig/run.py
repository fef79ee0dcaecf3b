"""Runs tests on the virtual device and says which operators they checked. See README.md.

python tests/rig/run.py pytest ARGS         pytest on the device
python tests/rig/run.py quick               what `make test` runs: kernels and one system
python tests/rig/run.py full [--resume]     what `make rig` runs: all variants, all systems
python tests/rig/run.py table               the page of the last runs' results
"""

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.rig.coverage_page import write_page
from tests.rig.harness import REPO, environment

OUT = REPO / "work_dirs" / "rig"
GOLDEN = [f"tests/parity/test_ops{name}.py" for name in ("", "_raster", "_volumes")]
ON_THE_HOST = ("test_cuda_build.py", "test_cuda_host.py")
CASES = sorted(
    f"tests/ops/{path.name}"
    for path in (REPO / "tests" / "ops").glob("test_cuda_*.py")
    if path.name not in ON_THE_HOST
)
ON_CUDA = "native-float32 or test_cuda or test_devices"
SELECT = ["-k", ON_CUDA]
FILES = [*GOLDEN, *CASES, "tests/ops/test_devices.py"]
KERNELS = [*FILES, *SELECT]
CHECKED = [*GOLDEN, *(f"tests/ops/test_cuda_{name}.py" for name in ("parity", "ids")), *SELECT]
#: In one pytest, since each start of it takes as long as a hundred tests.
QUICK = ["tests/rig/selftest", "tests/rig/systems/test_gaussian_splatting.py"]
QUICK += ["tests/rig/systems/test_dry_run.py", *FILES, "-k"]
QUICK += [
    f"{ON_CUDA} or selftest or TestGaussianSplatting and resumes_bit_for_bit"
    " or test_dry_run and (rap_toytown_cpu or vae_toytown_cpu or feature_net_toytown_cpu)"
]
SOURCES = ("ops", "mmcity", "configs", "tests/ops", "tests/parity", "tests/rig", "tools")
LIMIT_SECONDS, TIMED_OUT = 3 * 3600, 124  # of a part; other work may share the machine
JOBS = ("pytest", "quick", "full", "table")


@dataclass
class Part:
    """Tests of one setting of the device, in a pytest of their own.

    Args:
        name: Name of the part and of its report.
        tests: Arguments of pytest.
        settings: Of the device; README.md lists them. Defaults to none.
    """

    name: str
    tests: list[str]
    settings: dict = field(default_factory=dict)


def kernels(name: str, tests=KERNELS, **settings) -> Part:
    """Operators: new memory holds NaN, golden vectors go to the device."""
    return Part(name, tests, {"poison": 1, **settings})


def quick_parts() -> list[Part]:
    return [
        kernels("selftest, kernels, system", QUICK),
        kernels("schedule 1", seed=1),
        kernels("checker", CHECKED, check=1, seed=2),
    ]


def full_parts() -> list[Part]:
    systems = sorted((REPO / "tests/rig/systems").glob("test_*.py"))
    return [
        Part("selftest", ["tests/rig/selftest"]),
        kernels("kernels"),
        *(kernels(f"schedule {seed}", seed=seed) for seed in range(1, 10)),
        kernels("checker", check=1),
        kernels("checker, schedule 10", CHECKED, check=1, seed=10),
        kernels("architecture 800", arch=800),
        kernels("no FMA", nofma=1),
        kernels("sanitizers", asan=1),
        *(Part(path.stem, [str(path.relative_to(REPO))]) for path in systems),
    ]


def unsuitable() -> str:
    """Why this machine cannot have a virtual device; empty where it can."""
    torch = Path(next(iter(importlib.util.find_spec("torch").submodule_search_locations)))
    if re.search(r"^cuda\b.*= '", (torch / "version.py").read_text(), re.MULTILINE):
        return "this torch is a build for CUDA"
    if platform.machine() != "x86_64" or shutil.which(os.environ.get("CXX", "g++")) is None:
        return "it needs x86-64 and g++"
    return ""


def digest_of_sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(p for name in SOURCES for p in (REPO / name).rglob("*") if p.is_file()):
        if path.suffix in (".py", ".cu", ".cuh", ".h", ".cpp", ".sh"):
            digest.update(str(path).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def report_of(part: Part) -> Path:
    return OUT / f"{part.name.replace(', ', '_').replace(' ', '_')}.json"


def pytest(args, devices=1, **settings) -> int:
    env = environment(devices, **settings) | {"MMCITY_TEST_DEVICE": "cuda"}
    command = [sys.executable, "-m", "pytest", "-p", "virtual_cuda.plugin", *args]
    try:
        return subprocess.run(command, cwd=REPO, env=env, timeout=LIMIT_SECONDS).returncode
    except subprocess.TimeoutExpired:
        print(f"pytest did not end within {LIMIT_SECONDS} s", file=sys.stderr)
        return TIMED_OUT


def cpu_seconds() -> float:
    """Of all processes that this one started and that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def run_parts(parts: list[Part], processes: int, resume: bool) -> int:
    """Runs each part, prints the summary, returns the number of parts that failed."""
    OUT.mkdir(parents=True, exist_ok=True)
    state = OUT / "summary.json"
    done = json.loads(state.read_text()) if state.exists() else {}
    sources, failed = digest_of_sources(), []
    for part in parts:
        known = done.get(part.name, {})
        if resume and known.get("state") == "passed" and known.get("sources") == sources:
            print(f"== {part.name}: passed before", flush=True)
            continue
        print(f"== {part.name}", flush=True)
        start, report = (time.time(), cpu_seconds()), report_of(part)
        report.unlink(missing_ok=True)
        workers = ["-n", str(processes), "--dist", "worksteal"] if processes > 1 else []
        code = pytest(["-q", "--no-header", *workers, *part.tests], report=report, **part.settings)
        words = "passed" if code == 0 else f"failed ({code})"
        took = dict(seconds=round(time.time() - start[0]), cpu=round(cpu_seconds() - start[1]))
        done[part.name] = dict(state=words, sources=sources, **took)
        failed += [part.name] if code else []
        state.write_text(json.dumps(done, indent=1))
    for part in parts:
        row = done[part.name]
        print(f"{row['seconds']:6d} s  {row['cpu']:6d} CPU s  {row['state']:12s} {part.name}")
    print(f"{len(parts) - len(failed)} of {len(parts)} parts passed")
    return len(failed)


def parse(words: list[str]) -> argparse.Namespace:
    """Options up to the job, and what follows it as it stands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="see README.md"
    )
    parser.add_argument("what", choices=JOBS)
    job = next((at for at, word in enumerate(words) if word in JOBS), len(words))
    args = parser.parse_args([*words[job : job + 1], *words[:job]])  # --set takes all that follows
    args.args = words[job + 1 :]
    for pair in args.set:
        if "=" not in pair:
            parser.error(f"--set: expected NAME=VALUE, got {pair!r}: README.md lists the names")
    return args


def main() -> int:
    args = parse(sys.argv[1:])
    settings = dict(pair.lower().split("=", 1) for pair in args.set)
    if reason := unsuitable():
        print(f"skipped: {reason}")
        return 0
    if args.what == "pytest":
        return pytest(args.args, args.devices, **settings)
    code = 0
    if args.what in ("quick", "full"):
        parts = quick_parts() if args.what == "quick" else full_parts()
        processes = int(os.environ.get("TEST_PROCESSES", "2"))
        code = run_parts(parts, processes, "--resume" in args.args)
    if args.what in ("full", "table"):
        parts = [part for part in full_parts() if "poison" in part.settings]
        reports = {part.name: report_of(part) for part in parts}
        write_page({name: json.loads(p.read_text()) for name, p in reports.items() if p.exists()})
    return code


if __name__ == "__main__":
    sys.exit(main())
