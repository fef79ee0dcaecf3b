"""Transforms on clips of occupancy, and the conditions a generator takes."""

from dataclasses import dataclass

import numpy as np
import torch

from mmcity.registry import TRANSFORMS
from mmcity.structures import OccupancyDataSample
from mmcity.utils.checks import check_choice

from .base import BaseTransform

STATIC, FORWARD, LEFT, RIGHT = range(4)
_SAMPLE_KEYS = ("scene", "frames", "window", "flip_type")


def _wrap(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def flip_clip(volume: np.ndarray, flip_type: int) -> np.ndarray:
    """Flip a clip ``(T, X, Y, Z)``: bit 0 flips x, bit 1 y, bit 2 time."""
    axes = [axis for bit, axis in ((1, 1), (2, 2), (4, 0)) if flip_type & bit]
    return np.flip(volume, axes).copy() if axes else volume


def flip_planar_poses(poses: np.ndarray, flip_type: int) -> np.ndarray:
    """Poses that fit a flipped clip.

    A flip mirrors the scene in the frame of the first sensor pose; heading and position of
    that pose stay where they were. Flipping time reverses the order.

    Args:
        poses: ``(T, 3)`` x, y (metres), yaw (radians) in world axes.
        flip_type: As in :func:`flip_clip`.
    """
    poses = poses.copy()
    origin = poses[0].copy()
    cos, sin = np.cos(origin[2]), np.sin(origin[2])
    rotation = np.array([[cos, -sin], [sin, cos]])  # sensor to world
    local = (poses[:, :2] - origin[:2]) @ rotation
    turn = poses[:, 2] - origin[2]
    if flip_type & 1:
        local[:, 0] *= -1
        turn = -turn
    if flip_type & 2:
        local[:, 1] *= -1
        turn = -turn
    poses[:, :2] = local @ rotation.T + origin[:2]
    poses[:, 2] = turn + origin[2]
    return poses[::-1].copy() if flip_type & 4 else poses


def planar_trajectory(poses: np.ndarray, frame: str = "world") -> np.ndarray:
    """Trajectory condition ``(T, 3)`` from planar poses.

    Args:
        poses: ``(T, 3)`` x, y, yaw.
        frame: ``world``: x, y relative to the first pose in world axes, yaw absolute (as in
            published checkpoints); ``ego``: all relative to the first pose.
    """
    check_choice("frame", frame, ("world", "ego"))
    result = poses.copy()
    result[:, :2] -= poses[0, :2]
    if frame == "ego":
        cos, sin = np.cos(poses[0, 2]), np.sin(poses[0, 2])
        result[:, :2] = result[:, :2] @ np.array([[cos, -sin], [sin, cos]])
        result[:, 2] = _wrap(poses[:, 2] - poses[0, 2])
    return result


def planar_command(
    poses: np.ndarray,
    angle_threshold: float = 0.0025,
    forward_threshold: float = 0.03,
    scale_thresholds: bool = False,
) -> int:
    """Driving command of a clip: 0 static, 1 forward, 2 left, 3 right.

    Args:
        poses: ``(T, 3)`` x, y, yaw.
        angle_threshold: Heading change in radians that makes a turn.
        forward_threshold: Displacement in metres that makes a motion.
        scale_thresholds: Multiply both by T. False is what published checkpoints were
            trained with.
    """
    scale = len(poses) if scale_thresholds else 1
    change = _wrap(poses[:, 2] - poses[0, 2])
    if (change > angle_threshold * scale).any():
        return LEFT
    if (change < -angle_threshold * scale).any():
        return RIGHT
    moved = np.linalg.norm(poses[:, :2] - poses[0, :2], axis=1)
    return FORWARD if (moved > forward_threshold * scale).any() else STATIC


def vehicle_layout(voxels: np.ndarray, down: int = 4, vehicle_class: int = 10) -> np.ndarray:
    """Bird's-eye vehicle mask ``(T, X/down, Y/down)`` uint8 of a clip ``(T, X, Y, Z)``."""
    frames, x, y = voxels.shape[:3]
    if x % down or y % down:
        raise ValueError(f"grid: expected multiples of the layout reduction {down}, got {x}x{y}")
    top = (voxels == vehicle_class).any(axis=3)
    blocks = top.reshape(frames, x // down, down, y // down, down)
    return blocks.any(axis=(2, 4)).astype(np.uint8)


def _need_poses(results: dict, name: str) -> np.ndarray:
    poses = results.get("planar_poses")
    if poses is None:
        raise ValueError(f"{name}: expected poses, got none of scene '{results.get('scene')}'")
    return np.asarray(poses, dtype=np.float64)


@TRANSFORMS.register_module()
class FlipXYT(BaseTransform):
    """Flip voxels, masks, frame names and poses together, by one of eight types.

    Must come before transforms that derive conditions from voxels or poses.

    Args:
        prob: Probability of a draw. Defaults to 0.5.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Flip ``voxels`` and poses at random."""
        # numpy's global generator is the one that mmengine seeds in every worker.
        if np.random.rand() >= self.prob:  # noqa: NPY002
            return results
        flip_type = int(np.random.randint(8))  # noqa: NPY002
        results["flip_type"] = flip_type
        for key in ("voxels", "invalid"):
            results[key] = flip_clip(results[key], flip_type)
        if flip_type & 4:
            results["frames"] = results["frames"][::-1]
        if results.get("planar_poses") is not None:
            results["planar_poses"] = flip_planar_poses(results["planar_poses"], flip_type)
        return results


@TRANSFORMS.register_module()
class MakeTrajectory(BaseTransform):
    """Add ``trajectory`` float32 ``(T, 3)``, see :func:`planar_trajectory`."""

    def __init__(self, frame: str = "world") -> None:
        self.frame = frame

    def transform(self, results: dict) -> dict:
        """Add ``trajectory`` (T, 3)."""
        poses = _need_poses(results, "MakeTrajectory")
        results["trajectory"] = planar_trajectory(poses, self.frame).astype(np.float32)
        return results


@TRANSFORMS.register_module()
@dataclass(eq=False)
class MakeCommand(BaseTransform):
    """Add ``command`` (int), see :func:`planar_command`."""

    angle_threshold: float = 0.0025
    forward_threshold: float = 0.03
    scale_thresholds: bool = False

    def transform(self, results: dict) -> dict:
        """Add ``command``."""
        results["command"] = planar_command(
            _need_poses(results, "MakeCommand"),
            self.angle_threshold,
            self.forward_threshold,
            self.scale_thresholds,
        )
        return results


@TRANSFORMS.register_module()
class MakeLayout(BaseTransform):
    """Add ``layout`` uint8, see :func:`vehicle_layout`."""

    def __init__(self, down: int = 4) -> None:
        self.down = down

    def transform(self, results: dict) -> dict:
        """Add ``layout`` (T, h, w)."""
        results["layout"] = vehicle_layout(results["voxels"], self.down)
        return results


@TRANSFORMS.register_module()
class PackOccInputs(BaseTransform):
    """Pack a clip into ``inputs`` (tensors) and ``data_samples``.

    Args:
        conditions: Keys that go into ``inputs`` beside the voxels, out of ``trajectory``,
            ``command``, ``layout``. Defaults to ().
        with_target: Put ``gt_occupancy`` and ``invalid_mask`` on the data sample.
            Defaults to True.
    """

    def __init__(self, conditions: tuple[str, ...] = (), with_target: bool = True) -> None:
        self.conditions = tuple(conditions)
        self.with_target = with_target

    def transform(self, results: dict) -> dict:
        """Pack ``inputs`` of tensors and a data sample."""
        voxels = torch.from_numpy(np.ascontiguousarray(results["voxels"]))
        inputs = {"voxels": voxels}
        for key in self.conditions:
            if key not in results:
                raise KeyError(f"PackOccInputs: expected '{key}': add the transform that makes it")
            inputs[key] = torch.as_tensor(results[key])
        sample = OccupancyDataSample(
            metainfo={key: results[key] for key in _SAMPLE_KEYS if key in results}
        )
        if self.with_target:
            sample.gt_occupancy = voxels
            sample.invalid_mask = torch.from_numpy(np.ascontiguousarray(results["invalid"]))
        return {"inputs": inputs, "data_samples": sample}
