"""Similarity transforms and their estimation from point pairs."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .geometry import rotation_angle, se3_from_rt


class Sim3:
    """A similarity ``p -> scale * rotation @ p + translation`` (one, not a batch).

    Args:
        scale (float | Tensor): Above 0. Defaults to 1.
        rotation (Tensor, optional): ``(3, 3)``. Defaults to the identity.
        translation (Tensor, optional): ``(3,)``. Defaults to zero.
    """

    def __init__(self, scale=1.0, rotation=None, translation=None) -> None:
        first = next((v for v in (rotation, translation, scale) if isinstance(v, Tensor)), None)
        like: dict[str, Any] = {"dtype": torch.float64}
        if first is not None:
            like = {"dtype": first.dtype, "device": first.device}
        self.scale = torch.as_tensor(scale, **like)
        self.rotation = torch.as_tensor(torch.eye(3) if rotation is None else rotation, **like)
        self.translation = torch.as_tensor(
            torch.zeros(3) if translation is None else translation, **like
        )
        if self.rotation.shape != (3, 3) or self.translation.shape != (3,):
            raise ValueError(
                f"expected a (3, 3) rotation and a (3,) translation, got "
                f"{tuple(self.rotation.shape)} and {tuple(self.translation.shape)}"
            )
        if not bool(self.scale > 0):
            raise ValueError(f"scale: expected a number above 0, got {float(self.scale)}")

    def __repr__(self) -> str:
        turn = float(rotation_angle(torch.eye(3).to(self.rotation), self.rotation))
        return (
            f"Sim3(scale={float(self.scale):.6g}, angle={np.degrees(turn):.4g} deg, "
            f"translation={self.translation.tolist()})"
        )

    @classmethod
    def from_matrix(cls, matrix) -> "Sim3":
        """From a ``(4, 4)`` matrix with a scaled rotation in its upper left part."""
        matrix = torch.as_tensor(matrix)
        scale = torch.linalg.det(matrix[:3, :3]).clamp_min(0) ** (1 / 3)
        return cls(scale, matrix[:3, :3] / scale, matrix[:3, 3])

    @classmethod
    def from_points(
        cls, source, target, weights=None, with_scale: bool = True, on_line: bool = False
    ) -> "Sim3":
        """The similarity that best takes ``source`` to ``target`` in the least-squares sense.

        Umeyama, "Least-squares estimation of transformation parameters between two point
        patterns" (PAMI 1991); with ``with_scale=False`` the rigid motion (Kabsch).

        Args:
            source (Tensor): ``(N, 3)``, N at least 3 and not on a line.
            target (Tensor): ``(N, 3)``.
            weights (Tensor, optional): ``(N,)``, at least 0. Defaults to equal ones.
            with_scale (bool): Defaults to True.
            on_line (bool): Take any of the best turns where the points lie on one line and leave
                the turn about it free. Defaults to False: that is an error.

        Raises:
            ValueError: If the points do not fix a rotation.
        """
        source, target = torch.as_tensor(source), torch.as_tensor(target)
        if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3:
            raise ValueError(
                f"expected two (N, 3) sets, got {tuple(source.shape)}, {tuple(target.shape)}"
            )
        out_dtype = torch.promote_types(source.dtype, target.dtype)
        source, target = source.double(), target.double()
        weights = torch.ones(len(source)).to(source) if weights is None else weights
        weights = torch.as_tensor(weights).to(source)
        total = weights.sum()
        if len(source) < 3 or not bool(total > 0):
            raise ValueError(f"expected at least 3 points with weight, got {len(source)}")
        weights = (weights / total)[:, None]
        mean_s, mean_t = (weights * source).sum(0), (weights * target).sum(0)
        ds, dt = source - mean_s, target - mean_t
        variance = (weights * ds * ds).sum()
        u, singular, vt = torch.linalg.svd((weights * dt).T @ ds)
        if not on_line and not bool(singular[1] > 1e-12 * singular[0].clamp_min(1e-300)):
            raise ValueError("points: expected some off one line, got all on one")
        sign = torch.ones(3).to(source)
        sign[2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vt))
        rotation = (u * sign) @ vt
        scale = (singular * sign).sum() / variance if with_scale else torch.ones(()).to(source)
        translation = mean_t - scale * rotation @ mean_s
        return cls(scale.to(out_dtype), rotation.to(out_dtype), translation.to(out_dtype))

    @property
    def matrix(self) -> Tensor:
        """``(4, 4)``."""
        return se3_from_rt(self.scale * self.rotation, self.translation)

    def to(self, *args, **kwargs) -> "Sim3":
        """The same on another device or in another dtype."""
        return Sim3(*(v.to(*args, **kwargs) for v in (self.scale, self.rotation, self.translation)))

    def inverse(self) -> "Sim3":
        """The similarity that undoes this one."""
        turned = self.rotation.T
        return Sim3(1 / self.scale, turned, -(turned @ self.translation) / self.scale)

    def __matmul__(self, other: "Sim3") -> "Sim3":
        """``(a @ b)(p) = a(b(p))``."""
        return Sim3(
            self.scale * other.scale,
            self.rotation @ other.rotation,
            self.scale * self.rotation @ other.translation + self.translation,
        )

    def __call__(self, points: Tensor) -> Tensor:
        """Points ``(..., 3)`` carried along, in their own dtype."""
        sim = self.to(points)
        return sim.scale * points @ sim.rotation.T + sim.translation

    def transform_poses(self, cam_to_world: Tensor) -> Tensor:
        """Camera poses ``(..., 4, 4)`` carried along; they stay rigid."""
        sim = self.to(cam_to_world)
        return se3_from_rt(sim.rotation @ cam_to_world[..., :3, :3], sim(cam_to_world[..., :3, 3]))
