"""Items of a batch that fail are named and end nothing."""

import pytest

from mmcity.utils import failures
from mmcity.utils.cli import UserError
from mmcity.utils.failures import ItemFailures


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(failures, "print_log", lambda text, *_: lines.append(text))
    return lines


def run(errors):
    found = ItemFailures("pictures")
    for row, error in enumerate(errors):
        with found.item(f"{row}.png"):
            if error is not None:
                raise error
    return found


def test_all_items_are_tried_and_those_that_fail_are_named(said):
    found = run([None, UserError("no picture"), None, OSError("3.png: lost")])

    assert (found.total, found.reasons) == (4, {"1.png": "no picture", "3.png": "3.png: lost"})
    assert said == ["left out: 1.png: no picture", "left out: 3.png: lost"]
    message = "2 of 4 pictures failed, the others are done: 1.png: no picture; 3.png: lost$"
    with pytest.raises(UserError, match=message):
        found.check()


def test_nothing_is_called_done_where_all_failed(said):
    with pytest.raises(UserError, match=r"4 of 4 pictures failed: 0\.png: a; .*; and 1 more$"):
        run([UserError("a")] * 4).check()


def test_a_single_item_has_its_own_error(said):
    with pytest.raises(FileNotFoundError, match="gone"):
        run([FileNotFoundError("gone")]).check()
    run([None]).check()


def test_a_defect_tells_its_place(said):
    run([ZeroDivisionError("x"), None])

    assert "Traceback" in said[0] and "test_failures.py" in said[0]


def test_interruptions_pass():
    with pytest.raises(KeyboardInterrupt):
        run([KeyboardInterrupt()])
