"""Scenes with one thing wrong each, and what is said about it before training."""

import shutil

import numpy as np
import pytest
from PIL import Image

from mmcity.cli.main import dispatch
from mmcity.datasets.io.colmap_model import read_colmap_model, write_colmap_model
from mmcity.datasets.io.colmap_types import ColmapCamera
from mmcity.engine.rap.scene_checks import check_localization_scene
from mmcity.utils import UserError
from tests.datasets.scenes import write_scene


@pytest.fixture
def scene(tmp_path):
    """24 photographs, all different, three of them held out; one camera, 200 points."""
    camera = ColmapCamera(3, "PINHOLE", 40, 30, [50.0, 50.0, 20.0, 15.0])
    write_scene(tmp_path, count=24, points=200, camera=camera)
    (tmp_path / "list_test.txt").write_text("003.png\n011.png\n019.png\n")
    return tmp_path


def findings(scene, **options):
    checks = check_localization_scene(scene, **{"unit_scale": 1.0, **options})
    return {check.what: check for check in checks}


def change(scene, edit):
    """Edit the model on disk."""
    model = read_colmap_model(scene / "sparse" / "0")
    edit(model)
    write_colmap_model(model, scene / "sparse" / "0")


def test_a_good_scene_passes(scene):
    found = findings(scene)
    assert {check.level for check in found.values()} == {"ok"}
    assert list(found) == ["images", "intrinsics", "split", "extent", "points", "scale"]
    assert found["split"].message == "21 mapped images, 3 queries"
    # Cameras stand on a circle of radius 5 and look at its middle.
    assert "5.5 scene units" in found["extent"].message
    assert "median distance of what is seen 5" in found["scale"].message


def test_a_broken_picture_is_named(scene):
    whole = (scene / "images" / "004.png").read_bytes()
    (scene / "images" / "004.png").write_bytes(whole[: len(whole) // 2])
    found = findings(scene)["images"]
    assert found.level == "error" and "004.png" in found.message


def test_mixed_focal_lengths(scene):
    def zoom(model):
        model.cameras[4] = ColmapCamera(4, "PINHOLE", 40, 30, [60.0, 60.0, 20.0, 15.0])
        model.images[15].camera_id = 4

    change(scene, zoom)
    found = findings(scene)["intrinsics"]
    assert found.level == "error" and "1.2500" in found.message and "005.png" in found.message
    assert findings(scene, regression=False)["intrinsics"].level == "ok"


def test_a_principal_point_off_the_centre(scene):
    def crop(model):
        model.cameras[3].params = np.array([50.0, 50.0, 30.0, 15.0])

    change(scene, crop)
    assert findings(scene)["intrinsics"].level == "warning"


def test_splits_that_measure_nothing(scene):
    shutil.copyfile(scene / "images" / "000.png", scene / "images" / "003.png")
    found = findings(scene)["split"]
    assert found.level == "error" and "003.png" in found.message
    names = [f"{row:03d}.png" for row in range(24)]
    (scene / "list_test.txt").write_text("\n".join(names[2:]) + "\n")
    found = findings(scene)["split"]
    assert found.level == "error" and "needs 3" in found.message


def test_cameras_in_one_place_and_lost_ones(scene):
    def move(row, center):
        def edit(model):
            image = model.images[10 + row]
            image.tvec = -image.viewmat[:3, :3] @ np.array(center)

        return edit

    change(scene, move(7, [900.0, 0, 0]))
    found = findings(scene)["extent"]
    assert found.level == "warning" and "007.png" in found.message

    def together(model):
        for row in range(24):
            move(row, [1.0, 2.0, 3.0])(model)

    change(scene, together)
    found = findings(scene)["extent"]
    assert found.level == "error" and "one place" in found.message


def test_a_scene_in_utm_coordinates_is_judged_as_about_the_origin(scene):
    near = {what: (check.level, check.message) for what, check in findings(scene).items()}

    def away(model):
        place = np.array([452310.25, 5411872.75, 213.5])
        for image in model.images.values():
            image.tvec = image.tvec - image.viewmat[:3, :3] @ place
        model.points3D.xyz = model.points3D.xyz + place

    change(scene, away)
    found = {what: (check.level, check.message) for what, check in findings(scene).items()}
    assert found == near


def test_small_units_are_no_lack_of_movement(scene):
    """Whether cameras move is judged by what they see, whatever the unit."""

    def shrink(model):
        for image in model.images.values():
            image.tvec = image.tvec * 1e-7
        model.points3D.xyz = model.points3D.xyz * 1e-7

    change(scene, shrink)
    assert findings(scene)["extent"].level == "ok"


def test_a_query_far_outside_of_the_map(scene):
    def leave(model):
        image = model.images[13]
        image.tvec = -image.viewmat[:3, :3] @ np.array([40.0, 0, 0])

    change(scene, leave)
    found = findings(scene)["extent"]
    assert found.level == "warning" and "003.png" in found.message and "localised" in found.message


def test_inverted_poses_are_seen_at_the_points(scene):
    def invert(model):
        for image in model.images.values():
            image.tvec = -image.tvec

    change(scene, invert)
    found = findings(scene)["points"]
    assert found.level == "error" and "world to camera" in found.message


def test_scale(scene):
    assert findings(scene, unit_scale=None)["scale"].level == "warning"
    tiny = findings(scene, unit_scale=0.001)["scale"]
    assert tiny.level == "warning" and "are those metres" in tiny.message


def test_levels_are_shown(scene):
    Image.new("RGB", (40, 30)).save(scene / "images" / "000.png")
    lines = [str(check) for check in check_localization_scene(scene)]
    assert lines[0] == "ok      images: 24 of 40x30 px"
    assert lines[-1].startswith("warning scale: metres per scene unit are not known")


def test_command_fails_where_training_would(scene, capsys):
    dispatch(["data", "check-scene", str(scene), "--metric"])
    assert "ok      scale: 1 m per scene unit" in capsys.readouterr().out
    picture = scene / "images" / "004.png"
    picture.write_bytes(picture.read_bytes()[: picture.stat().st_size // 2])
    with pytest.raises(UserError, match="cannot be trained on: images"):
        dispatch(["data", "check-scene", str(scene)])
    assert "004.png" in capsys.readouterr().out
