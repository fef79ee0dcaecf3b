"""New poses near known ones, for random view synthesis."""

import math
from collections.abc import Sequence

import numpy as np

from mmcity.registry import TASK_UTILS
from mmcity.utils.checks import check_choice

SAMPLERS = ("euler", "xz", "uniform", "uniform_sphere")
FRAMES = ("world_origin", "camera")


def _axis_rotation(axis: np.ndarray, degrees: float) -> np.ndarray:
    x, y, z = axis
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = math.radians(degrees)
    return np.eye(3) + math.sin(angle) * k + (1 - math.cos(angle)) * (k @ k)


def _euler(theta: float, phi: float, psi: float) -> np.ndarray:
    """Rz(psi) Ry'(theta) Rx(phi) in degrees; Ry' turns the other way round than Ry."""
    x, y, z = np.eye(3)
    return _axis_rotation(z, psi) @ _axis_rotation(y, -theta) @ _axis_rotation(x, phi)


@TASK_UTILS.register_module()
class PosePerturber:
    """Draws a pose near a given camera-to-world pose.

    ``euler`` turns by three angles and shifts within a cube; ``xz`` is for driving: only the
    second axis turns and the height stays; ``uniform`` turns about a random axis and shifts
    within a cube; ``uniform_sphere`` turns likewise and shifts by a random length in a random
    direction given by two angles (denser at the poles).

    Args:
        translation (float | Sequence): Largest shift along an axis (or length), scene units;
            three numbers give one for each axis of the world (not for ``uniform_sphere``).
        rotation (float | Sequence): Largest angle in degrees; three numbers (``euler`` and
            ``xz``) are for the turns about y, x and z of the world, in this order.
        sampler (str): One of the above. Defaults to ``euler``.
        frame (str): For ``euler`` and ``xz``: ``world_origin`` turns the camera's centre about
            the origin of the world too, as published; ``camera`` leaves it. Defaults to
            ``camera``.
        bounds (Sequence, optional): Lower and upper corner, ``(2, 3)``; new centres are clamped
            to them, widened by ``d_max``.
        d_max (float): Scene units. Defaults to 1.
    """

    def __init__(
        self,
        translation: float | Sequence[float],
        rotation: float | Sequence[float],
        sampler: str = "euler",
        frame: str = "camera",
        bounds: Sequence | None = None,
        d_max: float = 1.0,
    ) -> None:
        check_choice("sampler", sampler, SAMPLERS)
        check_choice("frame", frame, FRAMES)
        self.translation = _per_axis("translation", translation, sampler != "uniform_sphere")
        self.rotation = _per_axis("rotation", rotation, sampler in ("euler", "xz"))
        self.sampler, self.frame, self.d_max = sampler, frame, d_max
        self.bounds = None if bounds is None else np.asarray(bounds, dtype=np.float64)

    def fit_bounds(self, centers: np.ndarray) -> None:
        """Take the box of camera centres ``(N, 3)`` as ``bounds``."""
        centers = np.asarray(centers, dtype=np.float64)
        self.bounds = np.stack([centers.min(0), centers.max(0)])

    def draw(self, rng: np.random.RandomState) -> np.ndarray:
        """Raw numbers of one pose, in the order in which they are drawn.

        ``euler`` and ``xz``: three angles in degrees, three shifts. ``uniform``: angle, three
        normals of the axis, three shifts. ``uniform_sphere``: angle, three normals, length,
        azimuth, polar angle in radians.
        """
        angle, shift = self.rotation, self.translation
        if self.sampler in ("euler", "xz"):
            ranges = [*angle, *shift]
            return np.array([rng.uniform(-limit, limit) for limit in ranges])
        turn = [rng.uniform(-angle[0], angle[0]), *rng.normal(size=3)]
        if self.sampler == "uniform":
            return np.array([*turn, *rng.uniform(-shift, shift)])
        length, azimuth = rng.uniform(0, shift[0]), rng.uniform(0, 2 * math.pi)
        return np.array([*turn, length, azimuth, rng.uniform(0, math.pi)])

    def apply(self, pose: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """The pose ``(3, 4)`` that raw numbers make of another, before clamping."""
        out = np.array(pose, dtype=np.float64)
        if self.sampler in ("euler", "xz"):
            theta, phi, psi = draws[:3]
            shift = np.array(draws[3:6])
            if self.sampler == "xz":
                phi = psi = shift[1] = 0.0
            turn = _euler(theta, phi, psi)
            out[:, :3] = turn @ out[:, :3]
            if self.frame == "world_origin":
                out[:, 3] = turn @ out[:, 3]
        else:
            axis = np.asarray(draws[1:4])
            out[:, :3] = _axis_rotation(axis / np.linalg.norm(axis), draws[0]) @ out[:, :3]
            shift = np.asarray(draws[4:7])
            if self.sampler == "uniform_sphere":
                length, azimuth, polar = shift
                shift = length * np.array(
                    [
                        math.sin(polar) * math.cos(azimuth),
                        math.sin(polar) * math.sin(azimuth),
                        math.cos(polar),
                    ]
                )
        out[:, 3] += shift
        return out

    def clamp(self, pose: np.ndarray) -> np.ndarray:
        """The pose with its centre within the widened bounds."""
        if self.bounds is None:
            return pose
        out = np.array(pose)
        out[:, 3] = np.clip(out[:, 3], self.bounds[0] - self.d_max, self.bounds[1] + self.d_max)
        return out

    def __call__(self, pose: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        """A new pose ``(3, 4)``, camera to world."""
        return self.clamp(self.apply(pose, self.draw(rng)))


def _per_axis(name: str, value: float | Sequence[float], allows_three: bool) -> np.ndarray:
    """Three limits out of one or three numbers."""
    limits = np.atleast_1d(np.asarray(value, dtype=np.float64))
    if limits.size not in ((1, 3) if allows_three else (1,)) or (limits < 0).any():
        expected = "one or three numbers" if allows_three else "one number"
        raise ValueError(f"{name}: expected {expected} of at least 0, got {value}")
    return np.broadcast_to(limits, 3).copy()


def far_from_validation(
    poses: np.ndarray, validation: np.ndarray, min_distance: float, min_degrees: float
) -> np.ndarray:
    """Rows of poses whose nearest validation pose is far and differently turned.

    Args:
        poses: ``(N, 3, 4)`` camera to world.
        validation: ``(M, 3, 4)``; the nearest by centre is compared.
        min_distance: Scene units.
        min_degrees: Both conditions must hold.

    Returns:
        np.ndarray: ``(K,)`` row numbers.
    """
    gaps = np.linalg.norm(poses[:, None, :, 3] - validation[None, :, :, 3], axis=-1)
    nearest = gaps.argmin(1)
    turn = np.einsum("nij,nij->n", poses[:, :, :3], validation[nearest][:, :, :3])
    degrees = np.degrees(np.arccos(np.clip((turn - 1) / 2, -1, 1)))
    return np.flatnonzero((gaps.min(1) >= min_distance) & (degrees >= min_degrees))
