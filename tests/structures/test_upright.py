"""Up of a scene: as people and drones hold cameras, in any frame."""

import math

import pytest
import torch

from mmcity.structures.geometry import axis_angle_to_rotmat
from mmcity.structures.upright import guess_up, turn_upright

FRAMES = [torch.eye(3).double(), axis_angle_to_rotmat(torch.tensor([[1.9, -0.4, 0.7]]).double())[0]]


def camera(heading: float, pitch: float, roll: float, center=(0.0, 0.0, 1.6)) -> torch.Tensor:
    """Pose of a camera in a world with z up; pitch is down, all in degrees."""
    h, p, r = (math.radians(a) for a in (heading, pitch, roll))
    forward = torch.tensor([math.cos(h) * math.cos(p), math.sin(h) * math.cos(p), -math.sin(p)])
    right = torch.tensor([math.sin(h), -math.cos(h), 0.0])
    down = torch.linalg.cross(forward, right)
    right, down = right * math.cos(r) + down * math.sin(r), down * math.cos(r) - right * math.sin(r)
    pose = torch.eye(4).double()
    pose[:3, :3], pose[:3, 3] = torch.stack([right, down, forward], 1), torch.tensor(center)
    return pose


def views(kind: str) -> list[torch.Tensor]:
    if kind == "walk around a room":
        return [camera(18 * i, 10 + i % 3 * 10, (-1) ** i * 3) for i in range(20)]
    if kind == "one way down a street":
        return [camera(30, 8, (-1) ** i * 2, (i, 0.6 * i, 1.6)) for i in range(12)]
    heading = 0 if kind == "survey in one heading" else 180
    return [camera(i % 2 * heading + 5, 88, 0, (i % 5, i // 5, 50)) for i in range(20)]


@pytest.mark.parametrize("turn", FRAMES, ids=["z up", "turned"])
@pytest.mark.parametrize(
    "kind",
    [
        "walk around a room",
        "one way down a street",
        "survey in one heading",
        "survey there and back",
    ],
)
def test_up_is_found_in_any_frame(kind, turn):
    poses = torch.stack(views(kind))
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)).double() - 0.5
    points = points * torch.tensor([90.0, 70.0, 4.0 if "survey" in kind else 60.0])
    poses[:, :3] = turn @ poses[:, :3]
    up = guess_up(poses, points @ turn.T)
    angle = torch.rad2deg(torch.acos((up @ turn[:, 2]).clamp(-1, 1)))
    assert angle < (9 if kind == "one way down a street" else 3)
    torch.testing.assert_close(turn_upright(up) @ up, torch.tensor([0.0, 0.0, 1.0]).double())


def test_upside_down_is_turned():
    turn = turn_upright(torch.tensor([0.0, 0.0, -1.0]))
    torch.testing.assert_close(turn @ torch.tensor([0.0, 0.0, -1.0]), torch.tensor([0.0, 0.0, 1.0]))
    assert torch.linalg.det(turn) > 0
