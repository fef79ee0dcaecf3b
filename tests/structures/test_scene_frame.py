"""Frames of scenes: points and poses, composition, files, refusals."""

import json

import numpy as np
import pytest
import torch

from mmcity.structures import Gaussians, SceneFrame, Sim3, read_frame, write_frame
from mmcity.structures.geometry import quat_to_rotmat
from mmcity.structures.scene_frame import sidecar

QUARTER = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
UTM = SceneFrame(
    crs="EPSG:25832",
    origin=(452310.25, 5411872.75, 213.5),
    scale=2.0,
    rotation=QUARTER,
    translation=(0.5, 0.0, -1.0),
)


def similarity(seed=0):
    g = torch.Generator().manual_seed(seed)
    quat = torch.randn(4, generator=g, dtype=torch.float64)
    return Sim3(
        torch.tensor(1.7, dtype=torch.float64),
        quat_to_rotmat(quat / quat.norm()),
        torch.randn(3, generator=g, dtype=torch.float64),
    )


def test_points_go_to_the_world_and_back_without_loss():
    # A quarter turn takes (3, 4, 5) to (-4, 3, 5).
    world = UTM.scene_to_world([3.0, 4.0, 5.0])
    np.testing.assert_array_equal(world, [452302.75, 5411878.75, 222.5])
    np.testing.assert_array_equal(UTM.world_to_scene(world), [3.0, 4.0, 5.0])
    assert (UTM.matrix @ [3.0, 4.0, 5.0, 1.0])[:3].tolist() == world.tolist()
    moved = UTM.similarity(torch.tensor([[3.0, 4.0, 5.0]], dtype=torch.float64))
    np.testing.assert_allclose(moved[0].numpy(), world, rtol=0, atol=1e-9)


def test_poses_stay_rigid_and_stand_where_their_centres_go():
    pose = np.eye(4)
    pose[:3, :3] = similarity().rotation
    pose[:3, 3] = 3.0, 4.0, 5.0
    world = UTM.poses_to_world(torch.from_numpy(pose))
    np.testing.assert_array_equal(world[:3, 3], UTM.scene_to_world(pose[:3, 3]))
    np.testing.assert_allclose(world[:3, :3] @ world[:3, :3].T, np.eye(3), atol=1e-12)
    # What lies a metre ahead of the camera lies two world units ahead of it there.
    ahead = UTM.scene_to_world(pose[:3, 3] + pose[:3, 2]) - world[:3, 3]
    np.testing.assert_allclose(ahead, 2 * world[:3, 2], atol=1e-9)
    np.testing.assert_allclose(UTM.poses_to_scene(world[None])[0], pose, atol=1e-9)


def test_the_place_in_the_world_outlives_a_similarity_and_a_shift():
    point = np.array([0.3, -2.0, 1.5])
    world = UTM.scene_to_world(point)
    carried = similarity()
    there = carried(torch.from_numpy(point)).numpy()
    np.testing.assert_allclose(UTM.moved(carried).scene_to_world(there), world, atol=2e-9)
    offset = np.array([10.0, -20.0, 5.0])
    np.testing.assert_allclose(UTM.shifted(offset).scene_to_world(point - offset), world, atol=2e-9)
    assert UTM.moved(carried).crs == UTM.crs
    relative = UTM.relative_to(UTM.moved(carried))
    np.testing.assert_allclose(relative(torch.from_numpy(point)).numpy(), there, atol=1e-9)
    with pytest.raises(ValueError, match="one world"):
        UTM.relative_to(SceneFrame(crs="EPSG:25833"))


def test_the_shift_between_frames_of_one_scene():
    offset = [10.0, -20.0, 5.0]
    # The dataset's files have a frame, and the map was centred at reading.
    np.testing.assert_allclose(UTM.shift_to(UTM.shifted(offset)), offset, atol=1e-8)
    # A map of files that had no frame yet: its world are their coordinates.
    np.testing.assert_array_equal(UTM.shift_to(SceneFrame(origin=offset)), offset)
    np.testing.assert_array_equal(UTM.shift_to(SceneFrame()), [0, 0, 0])
    np.testing.assert_array_equal(SceneFrame().shift_to(SceneFrame(origin=offset)), offset)
    with pytest.raises(ValueError, match="differ by a shift"):
        UTM.shift_to(SceneFrame(scale=3.0))


def test_frame_json_has_the_keys_of_its_contract(tmp_path):
    write_frame(tmp_path / "frame.json", UTM)
    content = json.loads((tmp_path / "frame.json").read_text())
    assert content == {
        "version": 1,
        "crs": "EPSG:25832",
        "origin": [452310.25, 5411872.75, 213.5],
        "lla": None,
        "scale": 2.0,
        "rotation": [list(row) for row in QUARTER],
        "translation": [0.5, 0.0, -1.0],
        "unit": "m",
    }
    assert read_frame(tmp_path) == UTM == SceneFrame.from_line(UTM.to_line())
    assert "\n" not in UTM.to_line()
    assert sidecar("a/scene.spz").as_posix() == "a/scene.spz.frame.json"
    write_frame(tmp_path / "frame.json", SceneFrame())  # nothing to say
    assert read_frame(tmp_path) is None and SceneFrame().is_identity


@pytest.mark.parametrize(
    "change, message",
    [
        ({"version": 2}, "version 1, got 2"),
        ({"scale": 0}, "scale"),
        ({"rotation": [[1, 0, 0], [0, 1, 0], [0, 0, -1]]}, "rotation"),
        ({"origin": [1, 2]}, "origin"),
        ({"origin": ["x", 2, 3]}, "origin"),
        ({"origin": ["1", 2, 3]}, "origin: expected numbers"),
        ({"origin": [True, True, False]}, "origin: expected numbers"),
        ({"scale": None}, "scale: expected numbers, got None"),
        ({"scale": [2.0]}, "scale"),
        ({"crs": 25832}, "crs: expected text, got 25832"),
        ({"unit": None}, "unit: expected text"),
        ({"lla": [190, 8, 0]}, "lla: expected latitude"),
        ({"crs": "ENU"}, "expected lla"),
        ({"Origin": [1, 2, 3]}, r"expected the keys version, crs, origin.*got \['Origin'\]"),
    ],
)
def test_broken_frames_name_their_file(tmp_path, change, message):
    (tmp_path / "frame.json").write_text(json.dumps({**UTM.to_dict(), **change}))
    with pytest.raises(ValueError, match=message) as error:
        read_frame(tmp_path)
    assert "frame.json" in str(error.value)


def gaussians(frame, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(5, 3, generator=g),
        torch.randn(5, 4, generator=g),
        torch.rand(5, 3, generator=g),
        torch.rand(5, generator=g),
        frame=frame,
    )


def test_gaussians_keep_their_frame():
    scene = gaussians(UTM)
    assert scene[2:4].frame == scene.to(torch.float64).frame == scene.clone().frame == UTM
    carried = scene.transform(similarity())
    np.testing.assert_allclose(
        carried.frame.scene_to_world(carried.means), UTM.scene_to_world(scene.means), atol=1e-5
    )
    assert gaussians(None).transform(similarity()).frame is None


def test_joined_gaussians_are_in_the_frame_of_the_first():
    scene, other = gaussians(UTM), gaussians(UTM.shifted([7.0, 8.0, 9.0]), seed=1)
    both = Gaussians.cat([scene, other])
    assert both.frame == UTM
    torch.testing.assert_close(both.means[5:], other.means + torch.tensor([7.0, 8.0, 9.0]))
    with pytest.raises(ValueError, match="one frame"):
        Gaussians.cat([scene, gaussians(None)])
