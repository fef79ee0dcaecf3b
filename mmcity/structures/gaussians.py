"""A set of 3D Gaussians."""

import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmcity_ops.reference.covariance import covariances

from .base import TensorContainer, as_tensor
from .geometry import quat_multiply, quat_to_rotmat, rotmat_to_quat
from .scene_frame import SceneFrame
from .sim3 import Sim3
from .spherical_harmonics import SH_C0, rotate_sh, sh_degree_of


class Gaussians(TensorContainer):
    """N Gaussians with values as the renderer takes them (activations already applied).

    Args:
        means (Tensor): ``(N, 3)`` world positions.
        quats (Tensor): ``(N, 4)`` rotations, wxyz, of any length above 0.
        scales (Tensor): ``(N, 3)`` standard deviations along the own axes, at least 0.
        opacities (Tensor): ``(N,)`` in [0, 1].
        sh0 (Tensor, optional): ``(N, 1, 3)`` constant SH coefficients of the colour; colour
            is ``0.5 + SH_C0 * sh0``.
        shN (Tensor, optional): ``(N, K - 1, 3)`` further coefficients.
        features (Tensor, optional): ``(N, D)`` any other values (semantics, plain colours).
        frame (SceneFrame, optional): Where the scene lies. Defaults to None: ``means`` are all
            that is known.

    Raises:
        ValueError: If shapes disagree.
    """

    _row_fields = ("means", "quats", "scales", "opacities", "sh0", "shN", "features")
    _shared_fields = ("frame",)

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    sh0: Tensor | None
    shN: Tensor | None
    features: Tensor | None
    frame: SceneFrame | None

    # Set by :mod:`mmcity.structures.io.gaussians_ply`, which knows the formats.
    read_ply: ClassVar[Callable[[str | os.PathLike], "Gaussians"]]
    write_ply: ClassVar[Callable[..., Any]]
    write_splat: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        means,
        quats,
        scales,
        opacities,
        sh0: Tensor | None = None,
        shN: Tensor | None = None,
        features: Tensor | None = None,
        frame: SceneFrame | None = None,
    ) -> None:
        values = locals()
        self.frame = frame
        for name in self._row_fields:
            value = values[name]
            setattr(self, name, None if value is None else as_tensor(value))
        count = len(self.means)
        self.opacities = self.opacities.reshape(count)
        wanted = {
            "means": (count, 3),
            "quats": (count, 4),
            "scales": (count, 3),
            "opacities": (count,),
            "sh0": (count, 1, 3),
        }
        for name, shape in wanted.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise ValueError(f"{name}: expected shape {shape}, got {tuple(value.shape)}")
        if self.shN is not None:
            if self.sh0 is None:
                raise ValueError("shN: expected sh0 too, got none")
            if self.shN.ndim != 3 or self.shN.shape[0] != count or self.shN.shape[2] != 3:
                raise ValueError(
                    f"shN: expected shape ({count}, K - 1, 3), got {tuple(self.shN.shape)}"
                )
            sh_degree_of(1 + self.shN.shape[1])
        if self.features is not None and (self.features.ndim != 2 or len(self.features) != count):
            raise ValueError(
                f"features: expected shape ({count}, D), got {tuple(self.features.shape)}"
            )

    def __repr__(self) -> str:
        look = f"SH degree {self.sh_degree}" if self.sh0 is not None else "no SH"
        if self.features is not None:
            look += f", {self.features.shape[1]} features"
        return f"Gaussians({len(self)}, {look}, {self.dtype}, {self.device})"

    @property
    def sh(self) -> Tensor | None:
        """``(N, K, 3)`` all SH coefficients, or None."""
        if self.sh0 is None or self.shN is None:
            return self.sh0
        return torch.cat([self.sh0, self.shN], dim=1)

    @property
    def sh_degree(self) -> int | None:
        """Highest SH degree, or None."""
        if self.sh0 is None:
            return None
        return sh_degree_of(1 + (0 if self.shN is None else self.shN.shape[1]))

    @property
    def colors(self) -> Tensor | None:
        """``(N, 3)`` mean colour over all directions (may leave [0, 1]), or None."""
        return None if self.sh0 is None else 0.5 + SH_C0 * self.sh0[:, 0]

    @property
    def covariances(self) -> Tensor:
        """``(N, 3, 3)`` covariance matrices."""
        return covariances(quat_to_rotmat(self.quats), self.scales)

    @property
    def is_finite(self) -> Tensor:
        """``(N,)`` whether all values of a Gaussian are finite."""
        values = [getattr(self, name) for name in self._row_fields]
        rows = [
            v.detach().isfinite().reshape(len(v), *v.shape[1:] or (1,)).flatten(1).all(1)
            for v in values
            if v is not None
        ]
        return torch.stack(rows).all(0)

    def transform(self, sim3: Sim3) -> "Gaussians":
        """The scene carried by a similarity: positions, shapes and view-dependent colours.

        A known frame follows, so that the place in the world stays.
        """
        sim, exact = sim3.to(self.means), sim3.to(self.device, torch.float64)
        turn = rotmat_to_quat(sim.rotation).expand_as(self.quats)
        sh, shN = self.sh, self.shN
        if sh is not None and shN is not None and shN.shape[1]:
            shN = rotate_sh(sh, sim3.rotation)[:, 1:]
        return self._rebuilt(
            {
                "means": exact(self.means.double()).to(self.means),
                "quats": quat_multiply(turn, self.quats),
                "scales": self.scales * sim.scale,
                "shN": shN,
            },
            frame=None if self.frame is None else self.frame.moved(sim3),
        )

    def to_frame(self, frame: SceneFrame) -> "Gaussians":
        """The scene in another frame of its world; one without a frame is in world coordinates.

        Raises:
            ValueError: If the worlds have different reference systems.
        """
        own = self.frame or SceneFrame()
        if own == frame:
            return self._rebuilt({}, frame=frame)
        return self.transform(own.relative_to(frame))._rebuilt({}, frame=frame)

    @classmethod
    def cat(cls, parts: Sequence["Gaussians"]) -> "Gaussians":
        """Rows of several one after the other, in the frame of the first.

        Raises:
            ValueError: As in the base class, or if some but not all have a frame.
        """
        parts = list(parts)
        frame = parts[0].frame if parts else None
        if frame is not None and all(part.frame is not None for part in parts):
            parts = [part if part.frame == frame else part.to_frame(frame) for part in parts]
        return super().cat(parts)
