"""Writing a reconstructed stream to a folder while it runs."""

import os
from pathlib import Path

import numpy as np
import torch

from mmcity.datasets.io.point_ply import write_point_ply
from mmcity.structures import Trajectory
from mmcity.utils.fileio import atomic_path
from mmcity.visualization import colorize_depth, write_image
from mmcity.visualization.point_cloud import select_points, write_glb

from .streaming_reconstructor import FrameResult


class StreamWriter:
    """Writes trajectory, depth maps and a point cloud; memory stays bounded.

    ``depth/NAME.npy`` and ``depth/NAME.png`` are written per frame; ``trajectory.txt`` (TUM
    lines, camera to world), ``intrinsics.txt`` (fx fy cx cy per frame, px, pixel centres at
    half-integers) and ``points.ply`` or ``.glb`` when the writer is closed. Frames of the
    further cameras of a rig go to files and folders with the camera's number,
    ``trajectory_1.txt``, ``depth_1``. Use it as a context manager.

    Args:
        folder: Target.
        formats: Point-cloud formats, of ``'ply'`` and ``'glb'``. Defaults to ``('ply',)``.
        max_points: Points kept for the cloud; a uniform sample of all. Defaults to 1,000,000.
        percentile: See :func:`select_points`. Defaults to 50.
        save_depth: Write depth maps. Defaults to True.
        seed: Of the sample. Defaults to 0.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        formats: tuple[str, ...] = ("ply",),
        max_points: int = 1_000_000,
        percentile: float | None = 50.0,
        save_depth: bool = True,
        seed: int = 0,
    ) -> None:
        unknown = set(formats) - {"ply", "glb"}
        if unknown:
            raise ValueError(f"formats: expected some of 'ply' and 'glb', got {sorted(unknown)}")
        self.folder = Path(folder)
        self.formats = formats
        self.max_points = max_points
        self.percentile = percentile
        self.save_depth = save_depth
        self._rng = np.random.default_rng(seed)
        self._frames: dict[int, list[tuple]] = {}  # camera to (pose, time, K)
        self._image_size = (0, 0)
        # Columns: sort key of the sample, confidence, x, y, z, r, g, b.
        self._points = np.empty((0, 8), dtype=np.float32)

    def __enter__(self) -> "StreamWriter":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self._frames:
            self.close()

    def write(self, result: FrameResult) -> None:
        """Take one frame."""
        row = (result.cam_to_world, result.timestamp, result.K)
        self._frames.setdefault(result.camera, []).append(row)
        self._image_size = result.depth.shape
        if self.save_depth:
            depths = self.folder / f"depth{_suffix(result.camera)}"
            with atomic_path(depths / f"{result.name}.npy") as path:
                np.save(path, result.depth)
            write_image(depths / f"{result.name}.png", colorize_depth(result.depth))
        self._sample(result)

    def _sample(self, result: FrameResult) -> None:
        """Keep the points with the smallest random keys: a uniform sample of the stream."""
        count = result.depth.size
        rows = np.concatenate(
            [
                self._rng.random((count, 1)),
                result.points_conf.reshape(-1, 1),
                result.points.reshape(-1, 3),
                result.image.reshape(-1, 3),
            ],
            axis=1,
        ).astype(np.float32)
        rows = rows[np.isfinite(rows).all(axis=1)]
        rows = np.concatenate([self._points, rows])
        if len(rows) > self.max_points:
            rows = rows[np.argpartition(rows[:, 0], self.max_points)[: self.max_points]]
        self._points = rows

    def trajectory(self, camera: int = 0) -> Trajectory:
        """Path of a camera so far."""
        poses, times, _ = zip(*self._frames[camera])
        return Trajectory(torch.from_numpy(np.stack(poses)), list(times))

    def close(self) -> list[Path]:
        """Write what spans all frames; returns the files."""
        written = []
        for camera, rows in self._frames.items():
            target = self.folder / f"trajectory{_suffix(camera)}.txt"
            self.trajectory(camera).write_tum(target)
            lines = [K[[0, 1, 0, 1], [0, 1, 2, 2]] for _, _, K in rows]
            lenses = self.folder / f"intrinsics{_suffix(camera)}.txt"
            with atomic_path(lenses) as path:
                np.savetxt(path, lines, header="fx fy cx cy, pixel centres at half-integers")
            written += [target, lenses]
        confidence, points = self._points[:, 1], self._points[:, 2:5]
        colors = self._points[:, 5:].astype(np.uint8)
        kept = select_points(confidence, colors, self.percentile)
        if "ply" in self.formats:
            write_point_ply(self.folder / "points.ply", points[kept], colors[kept])
            written.append(self.folder / "points.ply")
        if "glb" in self.formats:
            rows = [row for rows in self._frames.values() for row in rows]
            poses, Ks = np.stack([row[0] for row in rows]), np.stack([row[2] for row in rows])
            target = self.folder / "points.glb"
            write_glb(target, points[kept], colors[kept], poses, Ks, self._image_size)
            written.append(target)
        return written


def _suffix(camera: int) -> str:
    return "" if camera == 0 else f"_{camera}"
