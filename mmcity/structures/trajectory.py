"""Camera paths and their text files."""

import os
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmcity.utils.checks import count_pairs
from mmcity.utils.fileio import read_numbers, write_text
from mmcity.utils.picture_names import natural_order

from .base import TensorContainer, as_tensor
from .geometry import quat_to_rotmat, rotmat_to_quat, se3_from_rt, se3_interpolate, se3_inverse
from .sim3 import Sim3


class TrajectoryFormatError(ValueError):
    """A pose file that cannot be read; names the file and the line."""


class Trajectory(TensorContainer):
    """Camera poses over time.

    Args:
        poses (Tensor): ``(N, 4, 4)`` or ``(N, 3, 4)`` camera to world, OpenCV axes; kept in
            float64, which text files need.
        timestamps (Tensor, optional): ``(N,)`` seconds, float64. Defaults to 0, 1, 2, ..
        validate (bool): Refuse values that are not finite; without it they stand for poses that
            are not known, or that a network failed to give. Defaults to True.

    Raises:
        ValueError: If shapes disagree or a value is not finite.
    """

    _row_fields = ("poses", "timestamps")

    def __init__(self, poses, timestamps=None, validate: bool = True) -> None:
        poses = as_tensor(poses, torch.float64)
        if poses.ndim != 3 or tuple(poses.shape[1:]) not in ((4, 4), (3, 4)):
            raise ValueError(f"poses: expected (N, 4, 4) or (N, 3, 4), got {tuple(poses.shape)}")
        self.poses = se3_from_rt(poses[:, :3, :3], poses[:, :3, 3])  # (N, 4, 4)
        if timestamps is None:
            timestamps = torch.arange(len(poses), dtype=torch.float64, device=poses.device)
        self.timestamps = as_tensor(timestamps, torch.float64).reshape(-1).to(poses.device)
        if len(self.timestamps) != len(poses):
            raise ValueError(f"expected {len(poses)} timestamps, got {len(self.timestamps)}")
        if not validate:
            return
        bad = ~(self.poses.isfinite().flatten(1).all(1) & self.timestamps.isfinite())
        if bool(bad.any()):
            raise ValueError(f"pose {int(bad.nonzero()[0, 0])}: expected finite values")

    def __repr__(self) -> str:
        return f"Trajectory({len(self)} poses, {self.length:.4g} long)"

    @property
    def centers(self) -> Tensor:
        """``(N, 3)`` camera positions."""
        return self.poses[:, :3, 3]

    @property
    def viewmats(self) -> Tensor:
        """``(N, 4, 4)`` world to camera."""
        return se3_inverse(self.poses)

    @property
    def length(self) -> float:
        """Travelled distance."""
        return float(self.centers.diff(dim=0).norm(dim=-1).sum())

    def transform(self, sim3: Sim3) -> "Trajectory":
        """The path in a world carried by a similarity."""
        return self._rebuilt({"poses": sim3.transform_poses(self.poses)})

    def alignment_to(self, other: "Trajectory", with_scale: bool = True) -> Sim3:
        """The similarity that best carries the positions to those of another path, row by row."""
        return Sim3.from_points(self.centers, other.centers, with_scale=with_scale)

    def interpolate(self, timestamps) -> "Trajectory":
        """Poses at other times: slerp of rotations, line between positions.

        Raises:
            ValueError: If own times do not increase, or a time lies outside of them.
        """
        times = as_tensor(timestamps, torch.float64).reshape(-1).to(self.device)
        own = self.timestamps
        if not bool((own.diff() > 0).all()):
            raise ValueError("interpolate: expected timestamps that increase")
        if bool(((times < own[0]) | (times > own[-1])).any()):
            raise ValueError(
                f"interpolate: expected times in [{own[0]:.6f}, {own[-1]:.6f}], "
                f"got {times.min():.6f}..{times.max():.6f}"
            )
        if len(self) == 1:
            return self[torch.zeros(len(times), dtype=torch.long)]
        right = torch.searchsorted(own, times).clamp(1, len(own) - 1)
        left = right - 1
        share = (times - own[left]) / (own[right] - own[left])
        poses = se3_interpolate(self.poses[left], self.poses[right], share)
        return Trajectory(poses, times)

    # ------------------------------------------------------------ files

    @classmethod
    def read_tum(cls, path: str | os.PathLike) -> "Trajectory":
        """Read ``timestamp tx ty tz qx qy qz qw`` lines (camera to world; # starts a comment).

        Raises:
            TrajectoryFormatError: If a line does not hold eight finite numbers.
        """
        rows = _read_rows(path, 8, "'timestamp tx ty tz qx qy qz qw'")
        quats = rows[:, [7, 4, 5, 6]]
        if np.linalg.norm(quats, axis=1).min() < 1e-6:
            raise TrajectoryFormatError(f"{path}: expected unit quaternions, got one of length 0")
        rotation = quat_to_rotmat(torch.from_numpy(quats))
        return cls(se3_from_rt(rotation, torch.from_numpy(rows[:, 1:4])), rows[:, 0])

    def write_tum(self, path: str | os.PathLike) -> None:
        """Write TUM lines, which evo and the RGB-D benchmark tools read."""
        quats = rotmat_to_quat(self.poses[:, :3, :3])
        rows = torch.cat([self.timestamps[:, None], self.centers, quats[:, [1, 2, 3, 0]]], 1)
        _write_rows(path, rows)

    @classmethod
    def read_kitti(cls, path: str | os.PathLike, times: str | os.PathLike | None = None):
        """Read lines of 12 numbers, the rows of a 3x4 camera-to-world matrix.

        Args:
            path: Poses.
            times: File with one time in seconds per line. Defaults to frame numbers.
        """
        poses = _read_rows(path, 12, "12 numbers of a 3x4 matrix").reshape(-1, 3, 4)
        _check_rotations(path, poses)
        stamps = None
        if times is not None:
            stamps = _read_rows(times, 1, "one time")[:, 0]
            count_pairs(times, error=TrajectoryFormatError, times=stamps, poses=poses)
        return cls(poses, stamps)

    def write_kitti(self, path: str | os.PathLike, times: str | os.PathLike | None = None) -> None:
        """Write lines of 12 numbers and, where ``times`` is given, one time per line there."""
        _write_rows(path, self.poses[:, :3].flatten(1))
        if times is not None:
            _write_rows(times, self.timestamps[:, None])

    @classmethod
    def read_7scenes(cls, folder: str | os.PathLike) -> "Trajectory":
        """Read ``frame-XXXXXX.pose.txt`` files (4x4 camera to world); frame numbers are times."""
        folder = Path(folder)
        files = natural_order(folder.glob("*.pose.txt")) if folder.is_dir() else []
        if not files:
            raise FileNotFoundError(f"{folder}: expected files *.pose.txt, found none")
        poses, times = [], []
        for row, file in enumerate(files):
            pose = _read_rows(file, 4, "four rows of four numbers")
            if pose.shape != (4, 4):
                raise TrajectoryFormatError(f"{file}: expected 4 rows, got {len(pose)}")
            _check_rotations(file, pose[None])
            poses.append(pose)
            number = re.search(r"(\d+)\.pose\.txt$", file.name)
            times.append(float(number[1]) if number else float(row))
        return cls(np.stack(poses), np.array(times))

    def write_7scenes(self, folder: str | os.PathLike) -> None:
        """Write one ``frame-XXXXXX.pose.txt`` per pose; times must be whole frame numbers.

        Raises:
            ValueError: If they are not, or occur twice.
        """
        numbers = self.timestamps.round().long()
        if bool((numbers - self.timestamps).abs().max() > 1e-9) or len(numbers.unique()) != len(
            numbers
        ):
            raise ValueError("write_7scenes: expected whole, unique frame numbers as timestamps")
        for number, pose in zip(numbers.tolist(), self.poses):
            _write_rows(Path(folder) / f"frame-{number:06d}.pose.txt", pose)


def _read_rows(path: str | os.PathLike, columns: int, what: str) -> np.ndarray:
    try:
        rows = read_numbers(path, columns, finite=True)
    except ValueError as error:
        raise TrajectoryFormatError(f"{error} ({what})") from error
    if not len(rows):
        raise TrajectoryFormatError(f"{path}: expected lines of {what}, found none")
    return rows


def _check_rotations(path: str | os.PathLike, poses: np.ndarray) -> None:
    residual = np.abs(poses[:, :3, :3] @ poses[:, :3, :3].swapaxes(1, 2) - np.eye(3)).max((1, 2))
    bad = np.flatnonzero((residual > 1e-2) | (np.linalg.det(poses[:, :3, :3]) < 0))
    if len(bad):
        raise TrajectoryFormatError(
            f"{path}: expected a rotation in the left 3x3 part of pose {bad[0]}, "
            f"got {poses[bad[0], :3, :3].tolist()}"
        )


def _write_rows(path: str | os.PathLike, rows: Tensor) -> None:
    lines = [" ".join(repr(value) for value in row) for row in rows.detach().cpu().tolist()]
    write_text(path, "".join(line + "\n" for line in lines))
