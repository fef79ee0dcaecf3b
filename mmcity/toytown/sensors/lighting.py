"""Sun, sky, ambient occlusion between buildings, haze and tone curve."""

from dataclasses import dataclass

import numpy as np

from mmcity.toytown.world.config import ToytownConfig
from mmcity.toytown.world.meshes import SurfaceMesh
from mmcity.toytown.world.noise import fbm


@dataclass(frozen=True)
class Lighting:
    """Light of a scene, linear RGB.

    Attributes:
        sun: (3,) unit vector towards the sun.
        sun_color: (3,) irradiance on a surface that faces the sun.
        sky_color: (3,) irradiance from the sky on a level surface.
        ground_color: (3,) light from below.
        zenith: (3,) radiance of the sky overhead.
        horizon: (3,) radiance of the sky at the horizon, also the haze.
        clouds: Share of the sky that clouds cover, about.
        haze_range: Metres after which haze hides 63 %.
    """

    sun: np.ndarray
    sun_color: np.ndarray
    sky_color: np.ndarray
    ground_color: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    clouds: float
    haze_range: float

    @classmethod
    def from_config(cls, config: ToytownConfig) -> "Lighting":
        """Light of the weather and hour that a config names."""
        presets = {
            "day": (42.0, (1.75, 1.62, 1.38), (0.46, 0.53, 0.64), (0.2, 0.19, 0.16),
                    (0.13, 0.28, 0.62), (0.62, 0.72, 0.84), 0.45),
            "overcast": (50.0, (0.08, 0.08, 0.08), (1.1, 1.15, 1.2), (0.3, 0.3, 0.29),
                         (0.5, 0.54, 0.6), (0.7, 0.72, 0.75), 0.9),
            "evening": (12.0, (1.9, 1.2, 0.65), (0.42, 0.45, 0.6), (0.13, 0.1, 0.09),
                        (0.14, 0.22, 0.48), (0.9, 0.66, 0.46), 0.35),
        }  # fmt: skip
        elevation, *colors, clouds = presets[config.lighting]
        if config.sun_elevation is not None:
            elevation = config.sun_elevation
        a, e = np.radians(config.sun_azimuth), np.radians(elevation)
        sun = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
        return cls(sun, *[np.array(c, np.float32) for c in colors], clouds, config.haze_range)

    def sky(self, directions: np.ndarray, pixel_angle: float) -> np.ndarray:
        """Radiance of the sky along unit directions (N, 3), (N, 3) float32."""
        d = directions.astype(np.float32)
        up = np.clip(d[:, 2], 0, 1)
        blend = (1 - up) ** 4
        color = self.zenith + (self.horizon - self.zenith) * blend[:, None]
        glow = np.clip(d @ self.sun.astype(np.float32), 0, 1) ** 60
        color = color + self.sun_color * (0.35 * glow)[:, None]
        height = np.maximum(up, 0.03)
        x, y = d[:, 0] / height, d[:, 1] / height
        footprint = pixel_angle / (height * height)
        billow = fbm(x + 40, y + 40, footprint.astype(np.float32), 61, 0.55, 5, 0.55)
        cover = np.clip((billow - 0.55 + self.clouds) * 2.2, 0, 1) * np.clip(up * 7, 0, 1)
        cloud = 0.5 * self.horizon + 0.42 * np.clip(1 - 0.35 * billow, 0.5, 1)[:, None]
        return (color + (cloud - color) * (0.85 * cover)[:, None]).astype(np.float32)

    def shade(
        self, albedo: np.ndarray, normal: np.ndarray, lit: np.ndarray, openness: np.ndarray
    ) -> np.ndarray:
        """Lambert radiance: albedo (N, 3), unit normals (N, 3), sunlit (N,), openness (N,)."""
        n = normal.astype(np.float32)
        direct = np.clip(n @ self.sun.astype(np.float32), 0, 1) * lit
        up = 0.5 + 0.5 * n[:, 2]
        ambient = self.sky_color * up[:, None] + self.ground_color * (1 - up)[:, None]
        return albedo * (self.sun_color * direct[:, None] + ambient * openness[:, None])

    def haze(self, color: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Mix in the horizon with distance (N,) metres."""
        share = (1 - np.exp(-distance / self.haze_range)).astype(np.float32)
        return color + (self.horizon - color) * share[:, None]


class Canyon:
    """Share of sky that a point sees, from the mean height of what stands around it."""

    CELL = 1.0

    def __init__(self, mesh: SurfaceMesh, low: np.ndarray, high: np.ndarray) -> None:
        self._low = low - 12.0
        size = np.ceil((high + 12.0 - self._low) / self.CELL).astype(int)
        middle = mesh.vertices[mesh.faces].mean(1)
        cell = ((middle[:, :2] - self._low) / self.CELL).astype(int)
        inside = ((cell >= 0) & (cell < size)).all(1)
        grid = np.zeros(size, dtype=np.float32)
        np.maximum.at(grid, tuple(cell[inside].T), middle[inside, 2].astype(np.float32))
        self._grids = [_box_blur(_box_blur(grid, 4), 4)]

    def openness(self, points: np.ndarray) -> np.ndarray:
        """Share of the sky light that reaches points (N, 3), (N,) float32 in [0.4, 1]."""
        grid = self._grids[0]
        xy = (points[:, :2] - self._low) / self.CELL - 0.5
        xy = np.clip(xy, 0, np.array(grid.shape) - 1.001)
        i = xy.astype(int)
        f = (xy - i).astype(np.float32)
        a = grid[i[:, 0], i[:, 1]] * (1 - f[:, 0]) + grid[i[:, 0] + 1, i[:, 1]] * f[:, 0]
        b = grid[i[:, 0], i[:, 1] + 1] * (1 - f[:, 0]) + grid[i[:, 0] + 1, i[:, 1] + 1] * f[:, 0]
        above = np.maximum(a + (b - a) * f[:, 1] - points[:, 2].astype(np.float32), 0)
        return np.clip(1 / (1 + 0.16 * above), 0.4, 1)


def _box_blur(grid: np.ndarray, radius: int) -> np.ndarray:
    for axis in (0, 1):
        padded = np.pad(
            grid, [(radius + 1, radius) if k == axis else (0, 0) for k in (0, 1)], "edge"
        )
        total = np.cumsum(padded, axis=axis, dtype=np.float64)
        n = 2 * radius + 1
        upper = np.take(total, range(n, total.shape[axis]), axis=axis)
        lower = np.take(total, range(total.shape[axis] - n), axis=axis)
        grid = ((upper - lower) / n).astype(np.float32)
    return grid


def to_srgb(radiance: np.ndarray) -> np.ndarray:
    """Linear radiance to sRGB in [0, 1] with a soft shoulder above 0.7."""
    x = np.maximum(radiance, 0)
    over = np.maximum(x - 0.7, 0)
    x = np.where(x > 0.7, 0.7 + 0.3 * (1 - np.exp(-over / 0.3)), x)
    low = 12.92 * x
    high = 1.055 * np.power(np.maximum(x, 1e-6), 1 / 2.4) - 0.055
    return np.where(x <= 0.0031308, low, high).astype(np.float32)
