"""Faults planted in the CUDA kernels, to see that the tests can fail: ``make rig-mutate``.

For each ``.cu`` file a seed draws places and kinds of faults. A patched copy of the sources is
compiled for the virtual device, and the tests that reach the file run on it. A fault counts as
caught where a test fails, the checker reports, the process crashes or does not end. Those that
cannot change a result stand in ``harmless_faults.py`` with the reason.
"""

import argparse
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.rig.harmless_faults import HARMLESS
from tests.rig.harness import REPO, RIG, environment

CSRC = REPO / "ops" / "csrc"
CPU_LIMIT = 900  # seconds of a process; a fault may keep a loop from ending
WALL_LIMIT = 4 * CPU_LIMIT  # other work may share the machine
#: Tests that launch the kernels of a file, as ``pytest -k`` takes them.
TESTS = {
    "intersect": "tile_lists or capacity or cut or image or tile_sizes",
    "knn": "knn or neighbours",
    "plane": "plane",
    "pointwise": "covariances or culling or adam",
    "projection": "projection or per_row or behind",
    "rasterize_bwd": "test_compositing or absolute or deterministic_gradients or not_aligned",
    "rasterize_fwd": "test_compositing or statistics or shares_of_tiles or not_aligned",
    "rasterize_reduce": "test_compositing or absolute or deterministic_gradients",
    "semantic_splat": "semantic",
    "spherical_harmonics": "harmonics or camera_ids",
    "ssim": "ssim",
    "surfel": "surfel",
    "tsdf": "tsdf",
    "voxelize_gaussians": "gaussians_to_voxels or broken_gaussians",
    "voxelize_points": "points_to_voxels or points_of_a_voxel or few_points",
}
#: Not compiled for the virtual device.
LEFT_OUT = {"primitives": "CUB, for which the rig has sorts and sums of the host"}
#: Kinds that need the checker of memory accesses; the others get it where they survive without.
CHECKED_AT_ONCE = ("missing barrier", "unset shared memory")

Edit = tuple[int, int, str]  # start, end, and what stands there instead


@dataclass(frozen=True)
class Fault:
    """A changed place of a kernel file.

    Args:
        file: Name of the ``.cu`` file without its suffix.
        kind: A key of :data:`KINDS`.
        edit: The change.
        line: Number of its line.
        text: The line as it was, without indentation.
        nth: How many places of the same kind stand before it on equal lines.
    """

    file: str
    kind: str
    edit: Edit
    line: int
    text: str
    nth: int

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self.file, self.kind, self.text, self.nth

    def apply(self, source: str) -> str:
        start, end, new = self.edit
        return source[:start] + new + source[end:]


def blank(source: str) -> str:
    """The device code alone: comments, sizes, host functions and includes become spaces."""
    hidden = re.compile(
        r"//[^\n]*|/\*.*?\*/|^[ \t]*#[^\n]*|static_assert\([^;]*;|^constexpr [^;]*;", re.M | re.S
    )
    text = hidden.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), source)
    start, end = source.index("namespace {"), source.rindex("}  // namespace\n\n")
    wide = (re.sub(r"[^\n]", " ", part) for part in (text[:start], text[end:]))
    head, tail = wide
    return head + text[start:end] + tail


def statement_before(code: str, at: int) -> str:
    """What stands between the end of the last statement or the start of a block and a place."""
    return code[max(code.rfind(c, 0, at) for c in (";", "{\n", "}\n")) + 1 : at].lstrip("\n")


TYPES = r"\s*(?:(?:static|const|constexpr|__shared__|extern|alignas\(\d+\))\s+)*"
TYPES += r"(?:\w+<[\w, ]+>|(?:float4?|double|bool|unsigned|u?int\d*_t|int|T|[A-Z]\w+)\b)"


def declares(code: str, at: int) -> bool:
    """Whether a subscript gives the size of a new array."""
    before = statement_before(code, at)
    inside = any(before.count(a) > before.count(b) for a, b in ("()", "{}"))
    first, *more = before.rsplit(",", 1)
    another = bool(more) and not more[0].strip() and not inside and re.match(TYPES, first)
    return bool(another or re.fullmatch(TYPES + r"[*&]?\s*", before))


def missing_barrier(code: str) -> Iterator[Edit]:
    for m in re.finditer(r"__sync(?:threads|warp)\(\);", code):
        yield m.start(), m.end(), ";"


def index_off_by_one(code: str) -> Iterator[Edit]:
    for m in re.finditer(r"\b\w+\[((?:[^\[\]&]|\[[^\[\]]*\])+)\]", code):
        if not declares(code, m.start()) and not re.match(r"(?:return|delete)\b", m[0]):
            yield m.start(1), m.end(1), f"({m[1]}) + 1"


def dropped_check(code: str) -> Iterator[Edit]:
    for m in re.finditer(r"\bif \(((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)", code):
        if not re.search(r"(?<!<)(?:<(?!<)|>=)", m[1]):
            continue
        leaves = re.match(r"\s*(?:return|continue|break)\b", code[m.end() :])
        yield m.start(1), m.end(1), "false" if leaves else "true"
    for m in re.finditer(r"[\w.]+(?: \+ \w+)? < [\w.]+(?= \?)", code):
        yield m.start(), m.end(), "true"


def lost_term(code: str) -> Iterator[Edit]:
    sums = r"[\w.\[\]+*> -]*[\w\]] \+= [^;]+;|(?:atomicAdd|add4|put)\([^;]*;|add_\w+\(\w+, [^;]*;"
    sums += r"|(?P<a>[\w.]+(?:\[[^;=]*\])?) = fmaf\([^;]*\b(?P=a)\);|(?P<b>\w+) = (?P=b) \+ [^;]+;"
    for m in re.finditer(rf"(?:^[ \t]*|\) )(?P<all>{sums})", code, re.M):
        yield m.start("all"), m.end("all"), ";"


def wrong_mask(code: str) -> Iterator[Edit]:
    for m in re.finditer(r"\bkAllLanes\b", code):
        yield m.start(), m.end(), "0x7fffffffu"
    for m in re.finditer(r"\(1u << (?:lane|window)\) - 1u", code):
        yield m.start(), m.end(), m[0].replace("1u <<", "2u <<")
    for m in re.finditer(r"__(all|any)_sync\b", code):
        yield m.start(), m.end(), {"all": "__any_sync", "any": "__all_sync"}[m[1]]
    for m in re.finditer(r"(?<=, )(kFewBatch|o|step|width)(?=\);)", code):
        if "shfl" in statement_before(code, m.start()):
            yield m.start(), m.end(), f"{m[1]} / 2"


def unset_shared_memory(code: str) -> Iterator[Edit]:
    names = re.findall(r"__shared__\s[^;]*?\b(\w+)(?=\[|;|,)", code)
    names = sorted({*names} - {"shared_bytes", "all_shared"})
    known = "|".join([*names, *([r"s\.\w+"] if re.search(r"Shared(?:<\w+>)?& s\b", code) else [])])
    if not known:
        return
    for m in re.finditer(rf"(?:^[ \t]*|\) )((?:{known})(?:\[[^;=]*\])? = [^;]+;)", code, re.M):
        yield m.start(1), m.end(1), ";"


def wrong_stride(code: str) -> Iterator[Edit]:
    for m in re.finditer(r"\b([2-9]|1[0-9]) \* (?=[a-z(])", code):
        yield m.start(1), m.end(1), str(int(m[1]) + 1)
    sizes = r"(?:rows\.|in\.)?channels|io\.stride|in\.D|in\.N|in\.width|channels|subs|stride|width"
    for m in re.finditer(rf"(?<=\* )({sizes})\b(?![.\[(])", code):
        yield m.start(), m.end(), f"({m[1]} + 1)"


def skipped_tail(code: str) -> Iterator[Edit]:
    for m in re.finditer(r"\bfor \([^;]*; ([\w.]+) <=? ", code):
        yield m.start(1), m.end(1), f"{m[1]} + 1"
    for m in re.finditer(r"\bif \((\w+) >= [\w.* ]+\) return", code):
        yield m.start(1), m.end(1), f"{m[1]} + 1"


KINDS: dict[str, Callable[[str], Iterator[Edit]]] = {
    "missing barrier": missing_barrier,
    "index off by one": index_off_by_one,
    "dropped bound check": dropped_check,
    "lost term": lost_term,
    "wrong mask": wrong_mask,
    "unset shared memory": unset_shared_memory,
    "wrong stride": wrong_stride,
    "skipped tail": skipped_tail,
}


def faults_of(file: str, source: str) -> dict[str, list[Fault]]:
    """All faults that can be planted in a file, by kind."""
    code, found = blank(source), {}
    for kind, search in KINDS.items():
        seen: dict[str, int] = {}
        found[kind] = []
        for edit in sorted(set(search(code))):
            line = source.count("\n", 0, edit[0])
            text = source.splitlines()[line].strip()
            nth = seen.setdefault(text, 0)
            seen[text] += 1
            found[kind].append(Fault(file, kind, edit, line + 1, text, nth))
    return {kind: faults for kind, faults in found.items() if faults}


def kernel_sources() -> dict[str, str]:
    """Kernel files by name without suffix."""
    return {path.stem: path.read_text() for path in sorted((CSRC / "cuda").glob("*.cu"))}


def draw(seed: int, file: str, source: str, count: int = 2) -> list[Fault]:
    """Faults of different kinds."""
    generator, by_kind = random.Random(f"{seed} {file}"), faults_of(file, source)
    kinds = generator.sample(sorted(by_kind), min(count, len(by_kind)))
    return [generator.choice(by_kind[kind]) for kind in kinds]


def limit_cpu() -> None:
    """End this process, and those that it starts, when it has computed for too long."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT + 10))


class Runner:
    """Runs tests on changed kernels; what a fault leaves in the cache of builds is deleted."""

    def __init__(self, build: Path, seed: int) -> None:
        self.build, self.seed = build, seed
        self.files = [str(path) for path in sorted((REPO / "tests" / "ops").glob("test_cuda_*.py"))]
        self.files = [f for f in self.files if not f.endswith(("_host.py", "_build.py"))]

    def tests(self, expression: str, csrc: Path, check: bool) -> str:
        """Why the tests failed, empty where they passed.

        Raises:
            RuntimeError: If the kernels do not compile, or no test matches.
        """
        # Memory that nobody set holds NaN in one run and other numbers in the other.
        settings = dict(check=int(check), seed=self.seed, poison=int(check))
        env = environment(csrc=csrc, build=self.build, **settings)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "virtual_cuda.plugin"]
        command += ["-p", "no:cacheprovider", "--no-header", "-k", expression, *self.files]
        try:
            done = subprocess.run(
                command, cwd=REPO, env=env, capture_output=True, text=True, timeout=WALL_LIMIT,
                preexec_fn=limit_cpu,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return "does not end"
        if done.returncode == 0:
            return ""
        output = done.stdout + done.stderr
        if done.returncode == -signal.SIGXCPU:
            return "does not end"
        if done.returncode < 0 or done.returncode > 128:
            return f"signal {abs(done.returncode) % 128}"
        if "CalledProcessError" in output or done.returncode != 1:
            raise RuntimeError("\n".join(output.splitlines()[-40:]))
        failed = re.search(r"^(?:FAILED|ERROR) \S*::(\S+)", output, re.M)
        cause = re.search(r"^E\s+(\S.*)", output, re.M)
        return f"{failed[1] if failed else '?'}: {cause[1][:90] if cause else ''}"

    def plant(self, fault: Fault, source: str) -> str:
        """What caught a fault; empty where nothing did."""
        before = set(self.build.iterdir())
        with tempfile.TemporaryDirectory() as folder:
            csrc = Path(folder) / "csrc"
            shutil.copytree(CSRC, csrc)
            (csrc / "cuda" / f"{fault.file}.cu").write_text(fault.apply(source))
            variants = (True,) if fault.kind in CHECKED_AT_ONCE else (False, True)
            reasons = (self.tests(TESTS[fault.file], csrc, check) for check in variants)
            reason = next(filter(None, reasons), "")
        for path in set(self.build.iterdir()) - before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return reason


def prepared(cache: Path) -> Path:
    """Folder of builds beside the cache, with what the cache holds already."""
    build = cache / "mutants"
    build.mkdir(parents=True, exist_ok=True)
    for path in (*cache.glob("*.o"), *cache.glob("*.so"), *cache.glob("*.txt")):
        if not (build / path.name).exists():
            os.link(path, build / path.name)
    return build


def stale(sources: dict[str, str]) -> list[str]:
    """Entries of the table of harmless faults that nothing can draw."""
    known = {
        f.key for file, text in sources.items() for fs in faults_of(file, text).values() for f in fs
    }
    return [
        f"{entry}: listed as harmless, no longer drawn" for entry in HARMLESS if entry not in known
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="names of .cu files; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=2, help="faults per file")
    parser.add_argument("--dry-run", action="store_true", help="only list them")
    args = parser.parse_args(argv)
    sources = kernel_sources()
    problems = stale(sources)
    chosen = {f: s for f, s in sources.items() if f in (args.files or TESTS)}
    drawn = [
        f for file, source in chosen.items() for f in draw(args.seed, file, source, args.count)
    ]
    if args.dry_run:
        for fault in drawn:
            print(f"{fault.file}.cu:{fault.line} {fault.kind}: {fault.text} -> {fault.edit[2]}")
        return 0
    sys.path.insert(0, str(RIG))
    from virtual_cuda.build import folder

    runner = Runner(prepared(folder()), args.seed)
    reason = runner.tests(" or ".join(TESTS[file] for file in chosen), CSRC, False)
    if reason:
        print(f"without a fault: {reason}")
        return 1
    caught = 0
    for fault in drawn:
        reason, allowed = runner.plant(fault, sources[fault.file]), HARMLESS.get(fault.key)
        caught += bool(reason)
        where = f"{fault.file}.cu:{fault.line} {fault.kind}"
        if reason and allowed:
            problems.append(f"{fault.key}: listed as harmless, caught by {reason}")
        if not reason and not allowed:
            problems.append(f"{where}: survived: {fault.text} -> {fault.edit[2]}")
        says = (
            f"caught by {reason}" if reason else f"harmless: {allowed}" if allowed else "SURVIVED"
        )
        print(f"{where}: {says}", flush=True)
    print(f"{caught} of {len(drawn)} caught, seed {args.seed}")
    for problem in problems:
        print(problem)
    return int(bool(problems))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
