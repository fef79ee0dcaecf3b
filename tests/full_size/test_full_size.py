"""Every published config on miniature data: it builds, trains, resumes, validates and tests."""

import re
from functools import partial
from pathlib import Path

import pytest

from .cases import CASES, QUICK, ROOT, Case
from .material import Material
from .page import PAGE, write_page
from .results import Results, digest_of_sources
from .stages import STAGES, Outcome, run_apart

pytestmark = pytest.mark.timeout(7200)


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    """Folder of data and results; it is kept where ``MMCITY_FULL_SIZE`` names it."""
    return Path(ROOT).resolve() if ROOT else tmp_path_factory.mktemp("full_size")


def run_case(case: Case, root: Path) -> dict[str, Outcome]:
    """Run all stages of a config; one that fails leaves out those that need it."""
    folder = root / "cases" / case.name.replace("/", "__")
    found: dict[str, Outcome] = {}
    Material(root / "store").place(case, folder)
    for stage in case.stages:
        needs = {"resume": "train", "validate": "resume", "test": "train" if case.trains else ""}
        needed = found.get(needs.get(stage, ""))
        if needed is not None and needed.state != "passed":
            found[stage] = Outcome("left out", f"needs {needs[stage]}")
        else:
            found[stage] = run_apart(partial(STAGES[stage], case), folder, stage)
    return found


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in CASES],
)
def test_config(name, root):
    case, results, sources = CASES[name], Results(root / "results.json"), digest_of_sources()
    found = results.known(case, sources)
    if found is None:
        found = run_case(case, root)
        results.note(name, sources, found)
    failed = {stage: o.reason for stage, o in found.items() if o.state == "failed"}
    assert not failed, f"see {root / 'cases' / name.replace('/', '__')}"


def test_page_tells_what_passed_and_why_the_rest_did_not(tmp_path):
    name = "citygsx/citygsx_rubble"
    found = {"build": Outcome("passed", "", 2.0, 1.0), "train": Outcome("failed", "ValueError: no")}
    found["resume"] = Outcome("left out", "needs train")
    Results(tmp_path / "results.json").note(name, "digest", found)
    text = write_page(tmp_path / "results.json", tmp_path / "page.md").read_text(encoding="utf-8")
    (row,) = (line for line in text.splitlines() if line.startswith(f"| [{name}]"))
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[2:7] == ["yes", "**fails**", "left out", "not run", "not run"]
    assert f"- {name}, train: `ValueError: no`" in text
    assert f"{len(CASES)} configs" in text and "1 yes, 1 **fails**, 1 left out" in text


def test_page_lists_every_config():
    rows = re.findall(r"^\| \[([\w/]+)\]", PAGE.read_text(encoding="utf-8"), flags=re.M)
    assert rows == list(CASES), "write it anew: python -m tests.full_size.page RESULTS"
