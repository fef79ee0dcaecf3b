"""Every public operator has a page with an example, and the pages' shapes stay findable."""

import re
from pathlib import Path

import mmcity_ops

PAGES = Path(__file__).resolve().parents[2] / "docs" / "ops"
TOOLS = {"debug_mode", "set_debug"}  # described in the README of the pages, not operators


def test_every_operator_stands_in_an_example_on_some_page():
    text = "\n".join(page.read_text() for page in PAGES.glob("*.md"))
    examples = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    missing = {name for name in mmcity_ops.__all__ if not re.search(rf"\b{name}\b", examples)}
    assert missing <= TOOLS | {"TileLists"}
    assert "debug_mode" in text


def test_every_page_states_its_cost_and_is_listed():
    index = (PAGES / "README.md").read_text()
    for page in PAGES.glob("*.md"):
        if page.name in ("README.md", "cuda.md", "differences.md"):
            continue
        assert re.search(r"Cost|Complexity|memory", page.read_text()), page.name
        assert page.name in index, page.name
