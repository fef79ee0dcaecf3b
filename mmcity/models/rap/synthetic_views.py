"""Renders that a pose network trains on, beside the photographs."""

import torch
from torch import Tensor

__all__ = ["SyntheticViews"]

_KINDS = ("rendered", "perturbed")


class SyntheticViews:
    """One render at the pose of each photograph, and one at a perturbed pose.

    Pictures are kept as 16-bit floats on the CPU, not clamped, as rendered. They are no
    parameters: a hook makes them, and puts them into checkpoints.

    Attributes:
        rendered (Tensor | None): ``(N, 3, h, w)``, row = index of the photograph.
        perturbed (Tensor | None): ``(N k, 3, h, w)``, those of a photograph side by side.
        perturbed_poses (Tensor | None): ``(N k, 12)`` camera to world.
        views_per_image (int): The k of perturbed views.
    """

    def __init__(self) -> None:
        self.rendered: Tensor | None = None
        self.perturbed: Tensor | None = None
        self.perturbed_poses: Tensor | None = None
        self.views_per_image = 1

    def has(self, kind: str) -> bool:
        """Whether renders of a kind (``rendered`` or ``perturbed``) are there."""
        if kind not in _KINDS:
            raise ValueError(f"kind: expected one of {_KINDS}, got {kind!r}")
        return getattr(self, kind) is not None

    def get(self, kind: str, rows: list[int]) -> Tensor:
        """Pictures ``(B, 3, h, w)`` (perturbed: ``(B k, 3, h, w)``) float32 of photographs."""
        if kind == "perturbed":
            rows = self._perturbed_rows(rows)
        return getattr(self, kind)[rows].float()

    def poses(self, rows: list[int]) -> Tensor:
        """Poses ``(B k, 12)`` of the perturbed views of photographs."""
        return self.perturbed_poses[self._perturbed_rows(rows)]

    def _perturbed_rows(self, rows: list[int]) -> list[int]:
        count = self.views_per_image
        return [row * count + view for row in rows for view in range(count)]

    def set_rendered(self, pictures: Tensor) -> None:
        """Keep renders ``(N, 3, h, w)`` at the poses of the photographs."""
        self.rendered = pictures.to("cpu", torch.float16)

    def set_perturbed(self, pictures: Tensor, poses: Tensor) -> None:
        """Keep renders ``(N, 3, h, w)`` with their poses ``(N, 12)``."""
        if len(pictures) != len(poses):
            raise ValueError(f"got {len(pictures)} pictures and {len(poses)} poses")
        self.perturbed = pictures.to("cpu", torch.float16)
        self.perturbed_poses = poses.to("cpu", torch.float32)

    def state_dict(self) -> dict[str, Tensor]:
        """What is there."""
        names = (*_KINDS, "perturbed_poses")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore :meth:`state_dict`."""
        for name in (*_KINDS, "perturbed_poses"):
            setattr(self, name, state.get(name))
