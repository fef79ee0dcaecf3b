"""Pinhole views of the renderer (OpenCV axes, pixel centres at +0.5)."""

from dataclasses import dataclass

import numpy as np

from mmcity.structures import geometry


@dataclass(frozen=True)
class View:
    """A camera at one moment.

    Attributes:
        K: (3, 3) intrinsics in pixels.
        cam_to_world: (4, 4) pose.
        width: Pixels.
        height: Pixels.
        distortion: Brown-Conrady (k1, k2, p1, p2, k3); zeros are a pinhole.
    """

    K: np.ndarray
    cam_to_world: np.ndarray
    width: int
    height: int
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)

    @classmethod
    def from_fov(cls, cam_to_world: np.ndarray, width: int, height: int, fov_x: float) -> "View":
        """Square pixels and a central principal point; ``fov_x`` in degrees."""
        f = 0.5 * width / np.tan(np.radians(fov_x) / 2)
        K = np.array([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1.0]])
        return cls(K, np.asarray(cam_to_world, dtype=np.float64), width, height)

    @property
    def center(self) -> np.ndarray:
        """(3,) centre in the world."""
        return self.cam_to_world[:3, 3]

    @property
    def world_to_cam(self) -> np.ndarray:
        """(4, 4) inverse of the rigid pose."""
        return geometry.se3_inverse(self.cam_to_world)

    def pixel_grid(self) -> np.ndarray:
        """(H, W, 2) pixel centres."""
        x, y = np.arange(self.width) + 0.5, np.arange(self.height) + 0.5
        return np.stack(np.meshgrid(x, y), axis=-1)

    def camera_rays(self, pixels: np.ndarray) -> np.ndarray:
        """Rays with z = 1 in the camera frame through pixels (N, 2), (N, 3) float64."""
        x = (pixels[:, 0] - self.K[0, 2]) / self.K[0, 0]
        y = (pixels[:, 1] - self.K[1, 2]) / self.K[1, 1]
        if any(self.distortion):
            x, y = self._undistort(x, y)
        return np.column_stack([x, y, np.ones_like(x)])

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (N, 2) and z-depths (N,) of world points (N, 3)."""
        local = (points - self.center) @ self.cam_to_world[:3, :3]
        z = local[:, 2]
        safe = np.where(np.abs(z) < 1e-9, 1e-9, z)
        x, y = local[:, 0] / safe, local[:, 1] / safe
        if any(self.distortion):
            x, y = self._distort(x, y)
        pixels = np.column_stack([self.K[0, 0] * x + self.K[0, 2], self.K[1, 1] * y + self.K[1, 2]])
        return pixels, z

    def _distort(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k1, k2, p1, p2, k3 = self.distortion
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        return (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )

    def _undistort(self, xd: np.ndarray, yd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fixed-point inverse of the distortion, to float64 accuracy for mild lenses."""
        x, y = xd.copy(), yd.copy()
        for _ in range(50):
            fx, fy = self._distort(x, y)
            x, y = x + (xd - fx), y + (yd - fy)
        return x, y


def look_at(
    eye: np.ndarray, target: np.ndarray, up: tuple[float, float, float] = (0.0, 0.0, 1.0)
) -> np.ndarray:
    """Camera-to-world pose (4, 4) at ``eye`` that looks at ``target``, image up along ``up``."""
    vectors = [np.asarray(v, dtype=np.float64) for v in (eye, target, up)]
    return geometry.se3_inverse(geometry.look_at(*vectors))
