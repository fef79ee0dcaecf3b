"""The page of what the virtual device checked names every operator and every kernel file."""

import re

import pytest

from tests.rig import coverage_page as coverage


def rows() -> dict[str, list[str]]:
    """Cells of the page's tables by the name in the first column."""
    lines = coverage.PAGE.read_text().splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:3] == "| `"]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_the_rows_are_the_operators_and_files_of_the_sources():
    assert list(rows()) == [*coverage.operators(), *coverage.kernel_files()]


@pytest.mark.parametrize("name", [*coverage.operators(), *coverage.kernel_files()])
def test_nothing_failed_and_everything_was_compared(name):
    cells = rows()[name]
    assert not any("fail" in cell for cell in cells)
    if name not in coverage.HOST_FILES:
        done = dict(zip(coverage.COLUMNS, cells, strict=True))
        backward = f"{name.removesuffix('_bwd').removesuffix('_fwd')}_bwd"
        subsets = ["subsets"] if backward in coverage.operators() else []
        needed = ["parity", "schedules", "checker", *subsets]
        assert all(re.fullmatch(r"pass \(\d+\)", done[column]) for column in needed), cells


def test_failures_are_shown_and_counted_in_their_columns():
    test = "tests/parity/test_ops.py::test_x[native-float32]"
    passed, failed = ({"outcome": o, "ran": ["lod"]} for o in ("passed", "failed"))
    table = coverage.count({"kernels": {test: passed}, "schedule 1": {test: failed}})
    assert table == {"lod": {"golden": [1, 0], "schedules": [0, 1]}}
    assert coverage.cell(3, 1) == "fail (1 of 4)" and coverage.cell(0, 0) == "-"
