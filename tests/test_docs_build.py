"""The documentation builds without a warning."""

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


def test_docs_build_without_warnings(tmp_path):
    pytest.importorskip("sphinx", reason="sphinx is not installed (requirements/docs.txt)")
    pytest.importorskip("myst_parser", reason="myst-parser is not installed")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "cache"), str(REPO / "docs"), str(tmp_path / "html")],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    for page in ("index", "systems/citygsx", "user_guides/city_twin", "ops/README"):
        assert (tmp_path / "html" / f"{page}.html").is_file()
    twin = (tmp_path / "html" / "user_guides" / "city_twin.html").read_text()
    assert "manifest.json" in twin  # the project's own page is part of it
