"""Renders that a pose network trains on, beside the photographs."""

import torch
from torch import Tensor

from mmcity.structures.geometry import rotation_angle
from mmcity.utils.checks import check_choice

_KINDS = ("rendered", "perturbed")
_STATE = (*_KINDS, "perturbed_poses", "errors")


class SyntheticViews:
    """One render at the pose of each photograph, and one at a perturbed pose.

    Pictures are kept as 16-bit floats on the CPU, not clamped, as rendered. They are no
    parameters: a hook makes them, and puts them into checkpoints.

    Attributes:
        rendered (Tensor | None): ``(N, 3, h, w)``, row = index of the photograph.
        perturbed (Tensor | None): ``(N k, 3, h, w)``, those of a photograph side by side.
        perturbed_poses (Tensor | None): ``(N k, 12)`` camera to world.
        views_per_image (int): The k of perturbed views.
        errors (Tensor | None): ``(N k, 2)`` scene units and degrees of the pose network at its
            first sight of each perturbed view; NaN before.
    """

    def __init__(self) -> None:
        self.rendered: Tensor | None = None
        self.perturbed: Tensor | None = None
        self.perturbed_poses: Tensor | None = None
        self.errors: Tensor | None = None
        self.views_per_image = 1

    def has(self, kind: str) -> bool:
        """Whether renders of a kind (``rendered`` or ``perturbed``) are there."""
        check_choice("kind", kind, _KINDS)
        return getattr(self, kind) is not None

    def get(self, kind: str, rows: list[int]) -> Tensor:
        """Pictures ``(B, 3, h, w)`` (perturbed: ``(B k, 3, h, w)``) float16 of photographs."""
        if kind == "perturbed":
            rows = self._perturbed_rows(rows)
        return getattr(self, kind)[rows]

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
            raise ValueError(f"poses: expected one a picture, got {len(poses)} for {len(pictures)}")
        self.perturbed = pictures.to("cpu", torch.float16)
        self.perturbed_poses = poses.to("cpu", torch.float32)
        self.errors = torch.full((len(poses), 2), torch.nan)

    @torch.no_grad()
    def note_errors(self, rows: list[int], poses: Tensor, targets: Tensor) -> None:
        """Keep the errors of estimates ``(B k, 12)`` of the views of photographs.

        Only those at first sight count: later the network has learnt from the view.
        """
        slots = torch.tensor(self._perturbed_rows(rows))
        if self.errors is None or not (is_new := self.errors[slots].isnan().any(1)).any():
            return
        poses, targets = (part.float().unflatten(1, (3, 4)) for part in (poses, targets))
        distance = (poses[..., 3] - targets[..., 3]).norm(dim=-1)
        angle = torch.rad2deg(rotation_angle(targets[..., :3], poses[..., :3]))
        self.errors[slots[is_new]] = torch.stack([distance, angle], 1).cpu()[is_new]

    def state_dict(self) -> dict[str, Tensor]:
        """Names of the renders that are there."""
        return {name: getattr(self, name) for name in _STATE if getattr(self, name) is not None}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore :meth:`state_dict`."""
        for name in _STATE:
            value = state.get(name)
            setattr(self, name, None if value is None else value.cpu())
