"""``cameras.json`` of 3D Gaussian Splatting, out and in."""

import json

import numpy as np
import pytest

from mmcity.apis.scenes import export_scene
from mmcity.datasets.io.colmap_model import read_colmap_model
from mmcity.datasets.io.colmap_types import ColmapCamera
from mmcity.datasets.io.splat_cameras import read_cameras_json, write_cameras_json
from mmcity.utils.cli import UserError
from tests.datasets.scenes import HEIGHT, WIDTH, write_scene

MIDDLE = ColmapCamera(3, "PINHOLE", WIDTH, HEIGHT, [50.0, 52.0, WIDTH / 2, HEIGHT / 2])


def test_poses_and_focal_lengths_go_out_and_come_back(tmp_path):
    before = write_scene(tmp_path / "scene", camera=MIDDLE)
    made = export_scene(tmp_path / "scene", tmp_path / "cameras.json")
    assert made.lost == (f"{len(before.points3D)} points dropped",)
    export_scene(tmp_path / "cameras.json", tmp_path / "sparse" / "0")
    after = read_colmap_model(tmp_path / "sparse" / "0")
    images = [sorted(m.images.values(), key=lambda i: i.name) for m in (before, after)]
    assert [i.name for i in images[0]] == [i.name for i in images[1]]
    for one, other in zip(*images):
        np.testing.assert_allclose(one.viewmat, other.viewmat, atol=1e-9)
        assert after.cameras[other.camera_id].named_params == MIDDLE.named_params


def test_a_row_worked_out_by_hand(tmp_path):
    """A camera at (1, 2, 3) that looks along world x, its right along world -y."""
    turn = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    row = dict(id=0, img_name="a.png", width=40, height=30, position=[1, 2, 3], rotation=turn)
    (tmp_path / "cameras.json").write_text(json.dumps([{**row, "fx": 50, "fy": 52}]))
    model = read_cameras_json(tmp_path / "cameras.json")
    view = model.images[1].viewmat
    np.testing.assert_allclose(view @ [4, 2, 3, 1], [0, 0, 3, 1], atol=1e-12)
    np.testing.assert_allclose(view @ [1, 1, 3, 1], [1, 0, 0, 1], atol=1e-12)
    assert model.cameras[1].params.tolist() == [50, 52, 20, 15]
    write_cameras_json(model, tmp_path / "again.json")
    (again,) = json.loads((tmp_path / "again.json").read_text())
    np.testing.assert_allclose(again.pop("rotation"), turn, atol=1e-12)
    np.testing.assert_allclose(again.pop("position"), [1, 2, 3], atol=1e-12)
    assert again == {"id": 0, "img_name": "a.png", "width": 40, "height": 30, "fx": 50, "fy": 52}


def test_what_the_format_lacks_is_told_or_refused(tmp_path):
    model = write_scene(tmp_path / "a", camera=ColmapCamera(3, "PINHOLE", 40, 30, [50, 52, 18, 15]))
    assert "principal points moved" in write_cameras_json(model, tmp_path / "cameras.json")[-1]
    lens = ColmapCamera(3, "OPENCV", 40, 30, [50, 52, 20, 15, 0.01, 0, 0, 0])
    with pytest.raises(ValueError, match="undistort"):
        write_cameras_json(write_scene(tmp_path / "b", camera=lens), tmp_path / "cameras.json")
    with pytest.raises(UserError, match="expected a folder"):
        export_scene(tmp_path / "cameras.json", tmp_path / "c.ply")


@pytest.mark.parametrize("change", [{"width": 0}, {"rotation": [[2, 0, 0]] * 3}, {"fx": "wide"}])
def test_broken_files_name_themselves(tmp_path, change):
    row = dict(img_name="a", width=4, height=3, position=[0, 0, 0], rotation=np.eye(3).tolist())
    path = tmp_path / "cameras.json"
    for content in ([{**row, "fx": 5, "fy": 5, **change}], {"K": 1}, [], "x"):
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"cameras\.json: expected cameras of 3D"):
            read_cameras_json(path)
