"""A regular grid of labels or densities with its place in the world."""

import torch
from torch import Tensor

from .base import as_tensor


class VoxelGrid:
    """Values of cells, and where the cells lie.

    Cell (i, j, k) spans ``origin + index * voxel_size`` to one voxel further, along the axes
    of its frame.

    Args:
        labels (Tensor, optional): ``(..., X, Y, Z)`` whole numbers; leading dimensions are
            time steps or a batch.
        density (Tensor, optional): ``(..., X, Y, Z)`` floating point. Labels, density, or both.
        origin (Tensor): ``(3,)`` lower corner of the grid, in metres.
        voxel_size (float | Tensor): Edge length in metres, one number or ``(3,)``.
        free_label (int): Label of empty cells. Defaults to 0.
        masks (dict[str, Tensor], optional): Further ``(..., X, Y, Z)`` bools, such as
            ``camera`` and ``lidar`` visibility.

    Raises:
        ValueError: If shapes disagree, or a size is not above 0.
    """

    def __init__(
        self,
        labels=None,
        density=None,
        *,
        origin,
        voxel_size,
        free_label: int = 0,
        masks: dict[str, Tensor] | None = None,
    ) -> None:
        if labels is None and density is None:
            raise ValueError("expected labels or density, got neither")
        self.labels = None if labels is None else torch.as_tensor(labels)
        self.density = None if density is None else as_tensor(density)
        if self.labels is not None and self.labels.is_floating_point():
            raise ValueError(f"labels: expected whole numbers, got {self.labels.dtype}")
        device = self._values.device
        self.origin = as_tensor(origin).to(device).reshape(-1)
        self.voxel_size = as_tensor(voxel_size).to(device).reshape(-1).expand(3)
        self.free_label = int(free_label)
        self.masks = {name: torch.as_tensor(mask).bool() for name, mask in (masks or {}).items()}
        if self.origin.shape != (3,) or not bool(self.origin.isfinite().all()):
            raise ValueError(f"origin: expected 3 finite numbers, got {self.origin.tolist()}")
        if not bool((self.voxel_size > 0).all() & self.voxel_size.isfinite().all()):
            raise ValueError(f"voxel_size: expected above 0, got {self.voxel_size.tolist()}")
        if self._values.ndim < 3:
            raise ValueError(f"expected (..., X, Y, Z), got {tuple(self._values.shape)}")
        for name, value in {"density": self.density, **self.masks}.items():
            if value is not None and value.shape != self._values.shape:
                raise ValueError(
                    f"{name}: expected shape {tuple(self._values.shape)}, got {tuple(value.shape)}"
                )

    @property
    def _values(self) -> Tensor:
        values = self.density if self.labels is None else self.labels
        assert values is not None  # the constructor refuses a grid without either
        return values

    def __repr__(self) -> str:
        size = [round(v, 6) for v in self.voxel_size.tolist()]
        return f"VoxelGrid({tuple(self._values.shape)}, voxel {size}, {self.device})"

    @property
    def shape(self) -> torch.Size:
        """Cells along x, y, z."""
        return self._values.shape[-3:]

    @property
    def device(self) -> torch.device:
        """Device of the values."""
        return self._values.device

    @property
    def extent(self) -> Tensor:
        """``(2, 3)`` lower and upper corner."""
        size = torch.tensor(self.shape, device=self.device) * self.voxel_size
        return torch.stack([self.origin, self.origin + size])

    @property
    def occupied(self) -> Tensor:
        """``(..., X, Y, Z)`` where the label is not free; without labels, where density > 0."""
        return self._values > 0 if self.labels is None else self.labels.ne(self.free_label)

    def _map(self, function) -> "VoxelGrid":
        return VoxelGrid(
            None if self.labels is None else function(self.labels),
            None if self.density is None else function(self.density),
            origin=self.origin,
            voxel_size=self.voxel_size,
            free_label=self.free_label,
            masks={name: function(mask) for name, mask in self.masks.items()},
        )

    def __len__(self) -> int:
        if self._values.ndim == 3:
            raise TypeError("grid: expected a batch to count, got a single one: see `shape`")
        return len(self._values)

    def __getitem__(self, index) -> "VoxelGrid":
        """Grids of some time steps; the three space dimensions stay whole."""
        if self._values.ndim == 3:
            raise IndexError("expected a grid with leading dimensions, got a single one")
        return self._map(lambda value: value[index])

    def to(self, *args, **kwargs) -> "VoxelGrid":
        """On another device (or with another floating-point type of the density)."""
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
        return self._map(
            lambda v: v.to(device, dtype if v.is_floating_point() else None, non_blocking)
        )

    def cpu(self) -> "VoxelGrid":
        """On the CPU."""
        return self.to("cpu")

    def world_to_index(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Cells of points.

        Args:
            points (Tensor): ``(..., 3)`` in the frame of the grid.

        Returns:
            tuple[Tensor, Tensor]: Cell indices ``(..., 3)`` int64 and whether they lie inside
            ``(...)``. Points that are not finite lie outside, with index -1.
        """
        cells = ((points - self.origin.to(points)) / self.voxel_size.to(points)).floor()
        finite = cells.isfinite().all(-1, keepdim=True)
        limit = float(2**52)
        cells = torch.where(finite, cells.clamp(-limit, limit), torch.full_like(cells, -1)).long()
        size = torch.tensor(self.shape, device=cells.device)
        return cells, ((cells >= 0) & (cells < size)).all(-1)

    def index_to_world(self, index: Tensor) -> Tensor:
        """Centres ``(..., 3)`` of cells ``(..., 3)``."""
        return self.origin + (index.to(self.origin) + 0.5) * self.voxel_size

    @classmethod
    def from_points(
        cls, points: Tensor, labels: Tensor, shape, *, origin, voxel_size, free_label: int = 0
    ) -> "VoxelGrid":
        """A grid with the most frequent label of the points in each cell (ties: the lowest).

        Args:
            points (Tensor): ``(N, 3)``; those outside are left out.
            labels (Tensor): ``(N,)`` whole numbers, at least 0.
            shape (Sequence[int]): Cells along x, y, z.
            origin (Tensor): Lower corner.
            voxel_size (float | Tensor): Edge length.
            free_label (int): Label of cells without points. Defaults to 0.
        """
        grid = cls(
            torch.full(tuple(shape), free_label, dtype=torch.long, device=points.device),
            origin=origin,
            voxel_size=voxel_size,
            free_label=free_label,
        )
        cells, inside = grid.world_to_index(points)
        cells, labels = cells[inside], torch.as_tensor(labels).to(points.device)[inside].long()
        if len(labels):
            _, height, depth = grid.shape
            flat = (cells[:, 0] * height + cells[:, 1]) * depth + cells[:, 2]
            kinds = int(labels.max()) + 1
            votes, counts = (flat * kinds + labels).unique(return_counts=True)
            # Stable sorts leave, for each cell, the lowest label of the highest count first.
            order = counts.argsort(descending=True, stable=True)
            order = order[(votes[order] // kinds).argsort(stable=True)]
            voted = votes[order] // kinds
            first = torch.ones_like(voted, dtype=torch.bool)
            first[1:] = voted[1:] != voted[:-1]
            grid._values.view(-1)[voted[first]] = votes[order][first] % kinds
        return grid
