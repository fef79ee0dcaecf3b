"""The table of the documentation names all configs, with the numbers of today's code."""

import re
from pathlib import Path

import pytest

from mmcity.engine.dry_run import table
from mmcity.engine.dry_run.table import COLUMNS, published_configs, table_row
from tests.cli.conftest import call_tool

REPO = Path(__file__).resolve().parents[3]
PAGE = REPO / "docs" / "user_guides" / "gpu_memory_table.md"
#: Rows that are counted within seconds.
CHEAP = (
    "configs/gaussian_splatting/3dgs_colmap.py",
    "configs/dynamiccity/dynamiccity_vae_toytown_cpu.py",
    "configs/rap/rap_toytown_cpu.py",
)
TOLERANCE = dict(rel=0.02, abs=0.011)  # two digits behind the point


def rows() -> dict[str, list[str]]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {
        f"configs/{row[0]}.py": row for row in cells if len(row) == len(COLUMNS) and "/" in row[0]
    }


def test_tool_writes_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "published_configs", lambda: [Path(CHEAP[0])] * 2)
    call_tool("tools/analysis_tools/memory_table.py", "--out", tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert text.startswith(table.HEAD) and text.count(" 3,000,000 Gaussians |") == 2


def test_table_names_all_configs():
    assert set(rows()) == {str(config) for config in published_configs()}


@pytest.mark.parametrize("config", CHEAP)
def test_rows_are_those_of_the_code(config):
    made = [cell.strip() for cell in table_row(Path(config)).strip("|").split("|")]
    for new, old in zip(made, rows()[config], strict=True):
        if re.fullmatch(r"\d+\.\d+", new):
            assert float(new) == pytest.approx(float(old), **TOLERANCE)
        else:
            assert new == old
