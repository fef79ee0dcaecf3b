"""What runs of the suite found, kept for the page of the documentation.

python -m tests.reliability.results     # writes the tables of reliability.md
"""

from pathlib import Path

from mmcity.utils.fileio import read_json, read_text, write_json, write_text
from tests.conftest import REPO

FOLDER = REPO / "work_dirs" / "reliability"
PAGE = REPO / "docs" / "advanced_guides" / "reliability.md"


def keep_results(kind: str, name: str, found: dict[str, int]) -> None:
    """Numbers of one reader (``fuzz``) or command (``faults``), in the place of earlier ones."""
    file = FOLDER / f"{kind}.json"
    write_json(file, {**_kept(kind), name: found}, indent=1)


def _kept(kind: str) -> dict[str, dict[str, int]]:
    file = FOLDER / f"{kind}.json"
    return read_json(file) if file.is_file() else {}


def table(kind: str) -> str:
    """Markdown table of what is kept, with sums."""
    rows = _kept(kind)
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    total = {key: sum(row.get(key, 0) for row in rows.values()) for key in columns}
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    for name, row in [*sorted(rows.items()), (f"all {len(rows)}", total)]:
        lines.append([name.replace("_", " "), *(f"{row.get(key, 0):,}" for key in columns)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_page(page: Path = PAGE) -> None:
    """Put the tables between their marks."""
    text = read_text(page)
    for kind in ("faults", "fuzz"):
        start, end = f"<!-- {kind} -->", f"<!-- end of {kind} -->"
        before, after = text.split(start)[0], text.split(end)[1]
        text = f"{before}{start}\n\n{table(kind)}\n\n{end}{after}"
    write_text(page, text)


if __name__ == "__main__":
    write_page()
