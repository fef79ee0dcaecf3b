"""A box seen from the inside: pictures, depth maps and points in closed form."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from mmcity.structures.geometry import look_at, se3_inverse
from mmcity.toytown.writers.training_layouts import Video

#: Sine waves of the pattern on the walls, and their wavelengths in shares of the room.
_WAVES, _WAVELENGTHS = 8, (0.05, 0.5)


class Room:
    """Box with a pattern on its walls.

    Args:
        low: (3,) lower corner.
        high: (3,) upper corner.
        seed: Of the pattern.
    """

    def __init__(self, low: Sequence[float], high: Sequence[float], seed: int = 0) -> None:
        self.low, self.high = np.asarray(low, float), np.asarray(high, float)
        rng = np.random.default_rng(seed)
        lengths = rng.uniform(*_WAVELENGTHS, _WAVES) * (self.high - self.low).max()
        turns = rng.normal(size=(_WAVES, 3))
        turns /= np.linalg.norm(turns, axis=1, keepdims=True)
        self._waves = 2 * np.pi * turns / lengths[:, None]  # (W, 3)
        self._phases = rng.uniform(0, 2 * np.pi, _WAVES)
        self._weights = rng.normal(size=(_WAVES, 3)) * 60

    def distances(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Lengths ``(...)`` of rays ``(..., 3)`` up to the walls, in units of the directions."""
        walls = np.where(directions > 0, self.high, self.low)
        with np.errstate(divide="ignore", invalid="ignore"):
            lengths = np.where(directions == 0, np.inf, (walls - origins) / directions)
        return lengths.min(axis=-1)

    def colors(self, points: np.ndarray) -> np.ndarray:
        """uint8 ``(..., 3)`` of points on the walls."""
        waves = np.sin(points @ self._waves.T + self._phases)
        return np.clip(128 + waves @ self._weights, 0, 255).astype(np.uint8)


class RoomVideo(Video):
    """Pictures of a room.

    Args:
        room: The room.
        K: (3, 3) intrinsics, pixel centres at half-integers.
        size: Width and height in pixels.
        poses: (N, 4, 4) camera to world, OpenCV axes.
        index: Number of the video.
        coarse: Pixels along each axis that share one ray.
    """

    def __init__(
        self,
        room: Room,
        K: np.ndarray,
        size: tuple[int, int],
        poses: np.ndarray,
        index: int = 0,
        coarse: int = 1,
    ) -> None:
        super().__init__(index, np.asarray(K, float), np.asarray(poses, float))
        self.room, self.size, self.coarse = room, size, coarse
        self._seen: tuple[int, np.ndarray, np.ndarray] | None = None

    def _look(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Points on the walls and their depths at the coarse size."""
        if self._seen is None or self._seen[0] != frame:
            columns, rows = (
                (np.arange(-(-side // self.coarse)) + 0.5) * self.coarse for side in self.size
            )
            x, y = np.meshgrid(columns, rows)
            pixels = np.stack([x, y, np.ones_like(x)], axis=-1)
            pose = self.poses[frame]
            rays = pixels @ np.linalg.inv(self.K).T @ pose[:3, :3].T  # depth 1
            depth = self.room.distances(pose[:3, 3], rays)
            self._seen = (frame, pose[:3, 3] + rays * depth[..., None], depth)
        return self._seen[1:]

    def _enlarged(self, values: np.ndarray) -> np.ndarray:
        large = values.repeat(self.coarse, axis=0).repeat(self.coarse, axis=1)
        return large[: self.size[1], : self.size[0]]

    def points_seen(self, frame: int) -> np.ndarray:
        """World points ``(H, W, 3)`` of the pixels."""
        return self._enlarged(self._look(frame)[0])

    def random_points(self, frame: int, count: int) -> np.ndarray:
        """Points ``(count, 3)`` of random pixels."""
        points = self._look(frame)[0].reshape(-1, 3)
        return points[np.random.default_rng(frame).choice(len(points), count, replace=False)]

    def color(self, frame: int) -> np.ndarray:
        """See :meth:`Video.color`."""
        small = Image.fromarray(self.room.colors(self._look(frame)[0]))
        if self.coarse == 1:
            return np.asarray(small)
        width, height = (side * self.coarse for side in small.size)
        large = small.resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(large)[: self.size[1], : self.size[0]]

    def depth(self, frame: int) -> np.ndarray:
        """See :meth:`Video.depth`."""
        return self._enlarged(self._look(frame)[1]).astype(np.float32)

    def things(self, frame: int) -> np.ndarray:
        """See :meth:`Video.things`: the right half of the picture."""
        mask = np.zeros((self.size[1], self.size[0]), bool)
        mask[:, self.size[0] // 2 :] = True
        return mask


def pinhole(focal: float, size: tuple[int, int]) -> np.ndarray:
    """Intrinsics (3, 3) with the principal point in the middle."""
    return np.array([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]])


def round_walk(count: int, radius: float, turn: float = 360.0, height: float = 0.0) -> np.ndarray:
    """Poses ``(count, 4, 4)`` on a part of a circle about the z axis, with a view outwards."""
    angles = np.radians(np.linspace(0, turn, count, endpoint=False))
    eyes = np.stack([np.cos(angles), np.sin(angles), np.zeros(count)], axis=1) * radius
    targets = eyes * 3
    eyes[:, 2], targets[:, 2] = height, height - 0.3 * radius
    return se3_inverse(look_at(eyes, targets))


def flight(rows: int, columns: int, spacing: float, height: float) -> np.ndarray:
    """Poses ``(rows * columns, 4, 4)`` of an aerial survey, with a view almost straight down."""
    x, y = np.meshgrid(np.arange(columns) - (columns - 1) / 2, np.arange(rows) - (rows - 1) / 2)
    eyes = np.stack([x.ravel() * spacing, y.ravel() * spacing, np.full(x.size, height)], axis=1)
    targets = eyes * [1, 1, 0] + [0.05 * height, 0, 0]
    return se3_inverse(look_at(eyes, targets, np.array([0.0, 1.0, 0.0])))
