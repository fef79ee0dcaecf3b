"""Queries of a scene: what a localiser file stands for, and cameras of their own."""

import json

import numpy as np
import pytest

from mmcity.apis import localize_queries
from mmcity.apis.localization.queries import read_intrinsics
from mmcity.utils.cli import UserError


@pytest.fixture
def built(monkeypatch):
    """Arguments of the localiser that would be built."""
    calls = []

    def build(**parts):
        calls.append(parts)
        raise InterruptedError

    monkeypatch.setitem(localize_queries.__globals__, "build_localizer", build)
    return calls


def test_a_localizer_file_stands_for_what_is_left_out(built, tmp_path):
    for name in ("scene", "map.ply", "other.ply"):
        (tmp_path / name).touch()
    file = tmp_path / "localizer.json"
    file.write_text(json.dumps({"scene": "scene", "map": "map.ply", "long_side": 480}))
    for given in ({}, {"map": tmp_path / "other.ply", "long_side": 96}):
        with pytest.raises(InterruptedError):
            localize_queries(file, tmp_path / "out", start="mapped", **given)
        parts = built.pop()
        assert parts["scene"] == str(tmp_path / "scene")
        assert parts["map"] == given.get("map", str(tmp_path / "map.ply"))
        assert parts["long_side"] == given.get("long_side", 480)
        assert parts["num_near"] == 0 and parts["num_starts"] == 3


def test_a_map_and_what_the_start_needs_are_asked_for(built, tmp_path):
    with pytest.raises(UserError, match="map: expected"):
        localize_queries(tmp_path, tmp_path)
    with pytest.raises(UserError, match="expected a pose network"):
        localize_queries(tmp_path, tmp_path, map="map.ply", start="regression")
    assert not built


def test_intrinsics_are_read_by_name(tmp_path):
    file = tmp_path / "cameras.txt"
    file.write_text("# comment\na.jpg PINHOLE 40 30 20 21 19.5 14.5\n")
    camera = read_intrinsics(file)["a.jpg"]
    assert np.allclose(camera.K, [[20, 0, 19.5], [0, 21, 14.5], [0, 0, 1]])
    file.write_text("a.jpg PINHOLE 40 30 20 21 x 14.5\n")
    with pytest.raises(ValueError, match="line 1: expected name MODEL"):
        read_intrinsics(file)
