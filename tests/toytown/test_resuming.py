"""A writer that was killed goes on, wherever it was."""

import os

import pytest

from mmcity.toytown import ToytownConfig
from mmcity.toytown.writers import common
from mmcity.toytown.writers.common import Output

CONFIG = ToytownConfig(seed=3)


def begin(root):
    return Output.open(root, "video", CONFIG, frames=3)


def names(root):
    return sorted(os.listdir(root))


def test_killed_before_the_marker_was_in_place(tmp_path):
    (tmp_path / ".toytown-unfinished.ab12cd34.tmp.json").write_text("{")
    assert not begin(tmp_path).is_finished
    assert names(tmp_path) == [".toytown-unfinished.json"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_the_manifest(tmp_path, monkeypatch, when):
    out = begin(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    write_json = common.write_json

    def killed(*args, **kwargs):
        if when == "after":
            write_json(*args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(common, "write_json", killed)
        out.finish({}, "readme")

    again = begin(tmp_path)
    assert again.is_finished == (when == "after")
    if not again.is_finished:
        again.finish({}, "readme")
    assert names(tmp_path) == ["README.md", "a.txt", "toytown.json"]
    sums = common.read_json(tmp_path / "toytown.json")["sha256"]
    assert sorted(sums) == ["README.md", "a.txt"]


def test_files_of_others_are_refused_still(tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="found other files"):
        begin(tmp_path)
