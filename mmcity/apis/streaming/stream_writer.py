"""Writing a reconstructed stream to a folder while it runs."""

import contextlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from mmcity.datasets.io.point_ply import write_point_ply
from mmcity.structures import Trajectory
from mmcity.utils.fileio import atomic_path, write_npy
from mmcity.visualization import colorize_depth, write_image
from mmcity.visualization.point_cloud import select_points, write_glb

from .streaming_reconstructor import FrameResult

#: Frames that wait to be written at most.
MAX_PENDING = 8


class StreamWriter:
    """Writes trajectory, depth maps and a point cloud; memory stays bounded.

    ``depth/NAME.npy`` and ``depth/NAME.png`` are written per frame; ``trajectory.txt`` (TUM
    lines, camera to world), ``intrinsics.txt`` (fx fy cx cy per frame, px, pixel centres at
    half-integers) and ``points.ply`` or ``.glb`` when the writer is closed. Frames of the
    further cameras of a rig go to files and folders with the camera's number,
    ``trajectory_1.txt``, ``depth_1``. Use it as a context manager.

    A thread does the work, so that the stream goes on; its errors are raised by the next
    :meth:`write` or by :meth:`close`. Where it falls behind, :meth:`write` waits for it.

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
        # Rows: key of the sample, confidence, x, y, z, r, g, b.
        self._points = [np.empty((8, 0), dtype=np.float32)]
        self._key_limit = np.inf  # points with larger keys are out already
        self._thread = ThreadPoolExecutor(1, "mmcity-stream-writer")
        self._pending: deque[Future] = deque()

    def __enter__(self) -> "StreamWriter":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self._frames:
            # What went wrong first is told, not what follows from it.
            with contextlib.suppress(*(() if error is None else (Exception,))):
                self.close()

    def write(self, result: FrameResult) -> None:
        """Take one frame, whose arrays must not change afterwards."""
        self._wait(MAX_PENDING - 1)
        row = (result.cam_to_world, result.timestamp, result.K)
        self._frames.setdefault(result.camera, []).append(row)
        self._image_size = result.depth.shape
        self._pending.append(self._thread.submit(self._write, result))

    def _wait(self, allowed: int) -> None:
        """Wait until so many frames are left to write; raise what went wrong with the others."""
        while self._pending and (len(self._pending) > allowed or self._pending[0].done()):
            self._pending.popleft().result()

    def _write(self, result: FrameResult) -> None:
        if self.save_depth:
            depths = self.folder / f"depth{_suffix(result.camera)}"
            write_npy(depths / f"{result.name}.npy", result.depth)
            picture = colorize_depth(result.depth)
            write_image(depths / f"{result.name}.png", picture, is_live=True)
        self._sample(result)

    def _sample(self, result: FrameResult) -> None:
        """Keep the points with the smallest random keys: a uniform sample of the stream."""
        keys = self._rng.random(result.depth.size).astype(np.float32)
        chosen = np.flatnonzero(keys < self._key_limit)
        rows = np.empty((8, len(chosen)), dtype=np.float32)
        rows[0] = keys[chosen]
        rows[1] = result.points_conf.reshape(-1)[chosen]
        rows[2:5] = result.points.reshape(-1, 3)[chosen].T
        rows[5:] = result.image.reshape(-1, 3)[chosen].T
        is_finite = np.isfinite(rows[1:5]).all(axis=0)
        self._points.append(rows if is_finite.all() else rows[:, is_finite])
        # Sorting out is dear, so it waits until half of the points are too many.
        if sum(part.shape[1] for part in self._points) > 2 * self.max_points:
            self._thin_out()

    def _thin_out(self) -> None:
        rows = np.concatenate(self._points, axis=1)
        if rows.shape[1] > self.max_points:
            self._key_limit = np.partition(rows[0], self.max_points)[self.max_points]
            rows = rows[:, rows[0] < self._key_limit]
        self._points = [rows]

    def trajectory(self, camera: int = 0) -> Trajectory:
        """Path of a camera so far."""
        poses, times, _ = zip(*self._frames[camera])
        return Trajectory(torch.from_numpy(np.stack(poses)), list(times))

    def close(self) -> list[Path]:
        """Write what is left and what spans all frames; returns the files."""
        self._thread.shutdown()
        try:
            self._wait(0)
        except BaseException:
            with contextlib.suppress(Exception):
                self._write_whole()
            raise
        return self._write_whole()

    def _write_whole(self) -> list[Path]:
        self._thin_out()
        written = []
        for camera, rows in self._frames.items():
            target = self.folder / f"trajectory{_suffix(camera)}.txt"
            self.trajectory(camera).write_tum(target)
            lines = [K[[0, 1, 0, 1], [0, 1, 2, 2]] for _, _, K in rows]
            lenses = self.folder / f"intrinsics{_suffix(camera)}.txt"
            with atomic_path(lenses) as path:
                np.savetxt(path, lines, header="fx fy cx cy, pixel centres at half-integers")
            written += [target, lenses]
        (sample,) = self._points
        confidence, points, colors = sample[1], sample[2:5].T, sample[5:].T.astype(np.uint8)
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
