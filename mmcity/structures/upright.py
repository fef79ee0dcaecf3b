"""The direction up of a scene, guessed from its cameras and points."""

import torch
from torch import Tensor

#: Share of the cameras' right-hand axes off one line, from which they tell where up is.
_TURNED = 0.02
#: Length of a mean of unit vectors from which they count as pointing one way.
_ONE_WAY = 0.3
#: The same, from which cameras look down.
_DOWN = 0.7
#: Thickness over breadth of points from which on they tell of no ground.
_FLAT = 0.35


def guess_up(cam_to_world: Tensor, points: Tensor | None = None) -> Tensor:
    """Direction up in the world, from how people and drones hold cameras.

    Cameras that look down on flat points stand upright on their plane. Else, since pictures are
    not tilted to the side, the right-hand axes of the cameras are level; where all of these lie
    on one line, the mean upper edge of the pictures makes the choice.

    Args:
        cam_to_world: ``(C, 4, 4)`` poses with OpenCV axes (x right, y down, z forward).
        points: ``(N, 3)`` of the scene. Defaults to None.

    Returns:
        ``(3,)`` float64 unit vector.
    """
    poses = cam_to_world.detach().cpu().double()
    right, upper, back = poses[:, :3, 0], -poses[:, :3, 1].mean(0), -poses[:, :3, 2].mean(0)
    ground = None if points is None else _ground(points.detach().cpu().double())
    values, axes = torch.linalg.eigh(right.T @ right / len(right))
    if ground is not None and abs(back @ ground) > _DOWN:
        return ground if back @ ground > 0 else -ground
    if values[1] > _TURNED:
        up = axes[:, 0]
    else:
        up = axes[:, :2] @ axes[:, :2].T @ upper  # across the line of the right-hand axes
        up = up / up.norm()
    hint = upper if abs(upper @ up) > _ONE_WAY else back
    return -up if hint @ up < 0 else up


def _ground(points: Tensor) -> Tensor | None:
    """Normal of the plane of points, None where they are in none."""
    low, high = points.quantile(0.02, 0), points.quantile(0.98, 0)
    inner = points[((points >= low) & (points <= high)).all(1)]
    if len(inner) < 4:
        return None
    values, axes = torch.linalg.eigh(torch.cov(inner.T))
    is_flat = values[0].clamp_min(0).sqrt() < _FLAT * values[1].sqrt()
    return axes[:, 0] if is_flat else None


def turn_upright(up: Tensor) -> Tensor:
    """Shortest rotation ``(3, 3)`` that turns a direction ``(3,)`` to +z."""
    device, up = up.device, up.cpu() / up.cpu().norm()
    z = torch.tensor([0.0, 0.0, 1.0], dtype=up.dtype)
    axis, cosine = torch.linalg.cross(up, z), up @ z
    if cosine < 0 and axis.norm() < 1e-6:
        return torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=up.dtype)).to(device)
    x, y, w = axis
    cross = torch.tensor([[0, -w, y], [w, 0, -x], [-y, x, 0]], dtype=up.dtype)
    return (torch.eye(3, dtype=up.dtype) + cross + cross @ cross / (1 + cosine)).to(device)
