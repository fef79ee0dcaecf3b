"""Motion read off clips that were made by a known one."""

import numpy as np
import pytest

from mmcity.evaluation.functional.scene_motion import (
    EgoMotion,
    register_motion,
    static_consistency,
    vehicle_statistics,
)

BUILDING, ROAD, VEHICLE = 1, 6, 10


def _world(seed: int = 0) -> np.ndarray:
    """Columns of random static classes in blobs on a 200 x 200 plane, height 4."""
    rng = np.random.default_rng(seed)
    world = np.zeros((200, 200, 4), dtype=np.uint8)
    world[:, :, 0] = ROAD
    for _ in range(260):
        x, y = rng.integers(0, 195, 2)
        a, b = rng.integers(2, 6, 2)
        world[x : x + a, y : y + b, : rng.integers(2, 5)] = rng.choice([1, 2, 5, 8, 9])
    return world


def _drive(world: np.ndarray, motion: EgoMotion, frames: int, size: int = 48) -> np.ndarray:
    """What an ego vehicle in the middle of a grid sees along its way, x forward."""
    cells = np.stack(np.meshgrid(*[np.arange(size) - (size - 1) / 2] * 2, indexing="ij"), -1)
    clip = []
    for x, y, yaw in motion.poses(frames):
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        i, j = np.rint(cells @ turn.T + [x + 99.5, y + 99.5]).astype(int).transpose(2, 0, 1)
        clip.append(world[i, j])
    return np.stack(clip)


@pytest.mark.parametrize(
    "step", [(0.0, 0.0, 0.0), (2.0, 0.0, 0.0), (1.0, 0.33, 0.0), (1.5, 0.0, 0.06), (2.0, 0, -0.05)]
)
def test_the_motion_of_a_drive_is_found(step):
    motion = EgoMotion(np.array(step), 1.0)
    found = register_motion(_drive(_world(), motion, 8))
    np.testing.assert_allclose(found.step[:2], step[:2], atol=0.35)
    assert found.step[2] == pytest.approx(step[2], abs=0.013)
    # The end of the clip, eight frames on, is found to a voxel or two.
    end, expected = found.poses(8)[-1], motion.poses(8)[-1]
    assert np.abs(end[:2] - expected[:2]).max() < 2.5


def test_a_clip_of_one_world_is_consistent_and_one_of_many_is_not():
    motion = EgoMotion(np.array([2.0, 0.0, 0.0]), 1.0)
    same = _drive(_world(), motion, 6)
    other = np.stack([_drive(_world(s), motion, 6)[s] for s in range(6)])
    assert static_consistency(same, motion).min() > 0.95
    assert static_consistency(other, motion).max() < 0.8


def test_vehicles_are_counted_and_timed():
    motion = EgoMotion(np.array([1.0, 0.0, 0.0]), 1.0)
    clip = _drive(_world(), motion, 6)
    for t in range(6):
        clip[t, 30 - t : 34 - t, 10:12, 1:3] = VEHICLE  # stands: the ego vehicle drives past
        clip[t, 20 + t : 24 + t, 36:38, 1:3] = VEHICLE  # two voxels a frame over the ground
    counts, speeds = vehicle_statistics(clip, motion)
    assert (counts == 2).all()
    assert sorted(np.round(speeds, 6)) == pytest.approx([0.0] * 5 + [2.0] * 5)


def test_a_single_frame_is_refused():
    with pytest.raises(ValueError, match="2 frames"):
        register_motion(np.zeros((1, 8, 8, 2), dtype=np.uint8))
