"""Progress of a child process on the terminal of its parent."""

import time

import pytest

from mmcity.utils import progress
from mmcity.utils.child_process import call_in_child
from mmcity.utils.fileio import read_json, write_json
from mmcity.utils.progress import VARIABLE, ProgressWatch, report_progress


def slow_work(count: int) -> int:
    for step in range(count):
        report_progress("brick", step, count)
        time.sleep(0.3)
    return count


def test_steps_are_told_where_somebody_asks(tmp_path, monkeypatch):
    report_progress("brick", 1, 3)  # nobody does: nothing happens
    file = tmp_path / "progress.json"
    monkeypatch.setenv(VARIABLE, str(file))
    report_progress("brick", 0, 3)
    report_progress("brick", 1, 3)  # too soon after the first
    assert read_json(file) == dict(what="brick", done=0, total=3)
    report_progress("brick", 3, 3)  # the last is told at once
    assert read_json(file) == dict(what="brick", done=3, total=3)


def test_a_child_is_watched(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_FIRST_PAUSE", 0.5)
    assert call_in_child(slow_work, (10,), {}, tmp_path) == 10
    lines = capsys.readouterr().out.splitlines()
    assert 1 <= len(lines) <= 4 and lines[0].startswith("  brick ")
    assert lines[-1].endswith("s left") or len(lines) == 1
    assert not (tmp_path / "progress.json").exists()


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (dict(what="step", done=30, total=90), "step 30 of 90, 60 s left"),
        (dict(what="step", done=20, total=200), "step 20 of 200, 3 min left"),
        (dict(what="matching", done=0, total=0), "matching"),
        (dict(what="film frame", done=7, total=0), "film frame 7"),
    ],
)
def test_the_time_left_follows_from_the_pace(report, text, tmp_path):
    watch = ProgressWatch(tmp_path / "progress.json")
    write_json(watch.path, report)
    watch._line(dict(report, done=0 if report["total"] else report["done"]), now=100.0)
    pace = 1.0 if report["total"] else 0.0  # seconds per step
    assert watch._line(report, now=100.0 + pace * report["done"]) == text
