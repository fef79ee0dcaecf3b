"""The page that says which operators and kernels were checked how on the virtual device."""

import re
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PAGE = REPO / "docs" / "advanced_guides" / "cuda_checks.md"
COLUMNS = ("golden", "parity", "subsets", "schedules", "checker")
NOTHING = {"golden": "no vectors", "subsets": "no gradients"}  # where no test of a column calls it
HOST_FILES = {"primitives.cu"}  # sorts and scans of CUB, which the host computes instead
HEAD = """\
# What the virtual device checked

Written by `make rig` ([the rig](testing.md)): the CUDA operators and the files of their kernels,
and how many tests ran each of them on the virtual device and passed. *Golden*: golden vectors in
float32. *Parity*: values and gradients against the CPU. *Subsets*: each input alone with a
gradient, each output alone in the loss. *Schedules*: the same tests with other orders of threads,
another architecture, without FMA and under sanitizers. *Checker*: races, reads of unwritten shared
memory and accesses out of bounds.
"""


def operators() -> list[str]:
    """Operators with a CUDA kernel of their own, as the bindings register them."""
    text = "".join(p.read_text() for p in sorted((REPO / "ops/csrc").glob("bind_cuda*.cpp")))
    return sorted(set(re.findall(r'm\.impl\("(\w+)"', text)))


def kernel_files() -> list[str]:
    """The ``.cu`` files."""
    return sorted(path.name for path in (REPO / "ops/csrc/cuda").glob("*.cu"))


def columns_of(part: str, test: str) -> set[str]:
    """Columns of the table that a test of a part of the rig stands for."""
    if part.startswith("checker"):
        return {"checker"}
    if part != "kernels":
        return {"schedules"}
    if test.startswith("tests/parity/"):
        return {"golden"}
    return {"subsets" if "test_cuda_gradients" in test else "parity"}


def count(reports: dict[str, dict]) -> dict[str, dict[str, list[int]]]:
    """Passed and failed tests by name of an operator or file and by column."""
    table: dict[str, dict[str, list[int]]] = {}
    for part, tests in reports.items():
        for test, result in tests.items():
            if result["outcome"] == "skipped":
                continue
            for name in result["ran"]:
                row = table.setdefault(name, {})
                for column in columns_of(part, test):
                    row.setdefault(column, [0, 0])[result["outcome"] == "failed"] += 1
    return table


def cell(passed: int, failed: int, otherwise: str = "-") -> str:
    if failed:
        return f"fail ({failed} of {passed + failed})"
    return f"pass ({passed})" if passed else otherwise


def render(reports: dict[str, dict]) -> str:
    """The page as Markdown."""
    table = count(reports)
    parts = [HEAD]
    for title, names in (("operator", operators()), ("file", kernel_files())):
        lines = [f"| {title} | {' | '.join(COLUMNS)} |", "| --- " * (len(COLUMNS) + 1) + "|"]
        for name in names:
            row = table.get(name, {})
            cells = [cell(*row.get(c, (0, 0)), NOTHING.get(c, "-")) for c in COLUMNS]
            if name in HOST_FILES:
                cells = ["the host sorts and scans in its place", *[""] * (len(COLUMNS) - 1)]
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def write_page(reports: dict[str, dict]) -> None:
    PAGE.write_text(render(reports))
    print(f"wrote {PAGE.relative_to(REPO)}")
