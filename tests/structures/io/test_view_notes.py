"""Notes beside files of Gaussians."""

import json

import pytest

from mmcity.structures.io.view_notes import ViewNotes, read_view_notes, write_view_notes


def test_notes_come_back(tmp_path):
    scene = tmp_path / "scene.ply"
    assert read_view_notes(scene) is None
    write_view_notes(scene, [0, -1, 0], ["background"])
    assert read_view_notes(scene) == ViewNotes((0.0, -1.0, 0.0), ("background",))


@pytest.mark.parametrize(
    "content", [[], {}, {"up": [0, 1]}, {"up": [0, "a", 1]}, {"up": [0, 0, 0]}]
)
def test_broken_notes_name_themselves(tmp_path, content):
    (tmp_path / "scene.ply.view.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"scene\.ply\.view\.json: expected 'up'"):
        read_view_notes(tmp_path / "scene.ply")
