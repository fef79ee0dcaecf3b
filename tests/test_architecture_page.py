"""The page of the architecture: every room has a purpose, every hop of its walks exists."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
PAGE = REPO / "docs" / "advanced_guides" / "architecture.md"
TEXT = PAGE.read_text(encoding="utf-8")
HOPS = re.findall(r"^\d+\. \[`([\w.]+)`\]\(([^)]+)\)", TEXT, flags=re.M)
ROOMS = re.findall(r"^\| \[`([\w/]+)`\]\([^)]+\) \| (.*) \|$", TEXT, flags=re.M)


def resolve(name: str):
    """The object that a dotted name stands for."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize(("name", "link"), HOPS, ids=[name for name, _ in HOPS])
def test_hop_is_defined_in_the_file_that_it_links_to(name, link):
    source = inspect.getsourcefile(inspect.unwrap(resolve(name)))
    assert Path(source).resolve() == (PAGE.parent / link).resolve()


def test_walks_are_complete():
    titles = re.findall(r"^### (.*)$", TEXT, flags=re.M)
    assert len(titles) == 4 and len(HOPS) >= 30


def test_every_room_has_one_line():
    packages = {
        str(file.parent.relative_to(REPO))
        for depth in ("*", "*/*")
        for file in (REPO / "mmcity").glob(f"{depth}/__init__.py")
        if ".mim" not in file.parts
    }
    # below these, folders hold parts of one room
    parts = ("cli/", "workflow/", "visualization/viewer/")
    wanted = {room for room in packages if not room.removeprefix("mmcity/").startswith(parts)}
    rooms = dict(ROOMS)
    assert wanted <= set(rooms), sorted(wanted - set(rooms))
    assert all((REPO / room).is_dir() and purpose for room, purpose in ROOMS)
    assert len(rooms) == len(ROOMS)
