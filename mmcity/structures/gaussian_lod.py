"""A tree of cells of Gaussians, coarse to fine, for streaming scenes of any size."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .bounds import robust_bounds
from .gaussians import Gaussians
from .geometry import rotmat_to_quat

_EPS = 1e-12
_MAX_DEPTH = 20
#: A cell's box holds its Gaussians up to so many standard deviations.
_BOX_SIGMAS = 3.0
#: Merged Gaussians of an opaque surface grow by at most this factor, which closes the gaps of
#: a regular grid: its cubes have a standard deviation of 0.29 edges, and 0.5 leaves no gap.
_MAX_WIDENING = 1.75
_MAX_OPACITY = 0.999


@dataclass
class LodCell:
    """One node of the tree.

    Attributes:
        gaussians: What to draw in place of the subtree.
        box: ``(2, 3)`` lower and upper corner of what is drawn, children included, in the world.
        error: Size of the detail that the cell leaves out, in world units; 0 for a leaf.
        depth: 0 for the root.
        children: Numbers of the cells that replace this one together.
    """

    gaussians: Gaussians
    box: Tensor
    error: float
    depth: int
    children: list[int] = field(default_factory=list)


@dataclass
class GaussianLodTree:
    """Cells by number; number 0 is the root. Leaves hold the scene itself."""

    cells: list[LodCell]

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def leaves(self) -> list[int]:
        """Numbers of the cells without children."""
        return [number for number, cell in enumerate(self.cells) if not cell.children]

    def gather(self, numbers: Sequence[int]) -> Gaussians:
        """The Gaussians of some cells."""
        return Gaussians.cat([self.cells[number].gaussians for number in numbers])


def build_lod_tree(
    gaussians: Gaussians, max_per_cell: int = 20_000, merge_resolution: int = 48
) -> GaussianLodTree:
    """Split a scene into an octree whose inner nodes hold merged Gaussians.

    Args:
        gaussians: At least one.
        max_per_cell: A cell with more is split. Defaults to 20,000.
        merge_resolution: An inner cell is drawn by at most one Gaussian per cube of this
            part of its edge. Defaults to 48.

    Raises:
        ValueError: If there is no Gaussian.
    """
    if not len(gaussians):
        raise ValueError("build_lod_tree: expected at least one Gaussian, got none")
    g = gaussians.detach()
    # A few floaters far out must not set the size of the cells.
    low, high = robust_bounds(g.means, g.opacities).to(g.means)
    low, high = low.maximum(g.means.amin(0)), high.minimum(g.means.amax(0))
    edge = float((high - low).max().clamp_min(1e-6)) * (1 + 1e-6)
    cells: list[LodCell] = []

    def split(rows: Tensor, corner: Tensor, edge: float, depth: int) -> int:
        number = len(cells)
        part = g[rows]
        if len(rows) <= max_per_cell or depth >= _MAX_DEPTH:
            cells.append(LodCell(part, box_of(part), 0.0, depth))
            return number
        cells.append(LodCell(part, box_of(part), 0.0, depth))
        half = edge / 2
        x, y, z = (part.means >= corner + half).unbind(-1)
        octant = x + 2 * y + 4 * z
        children, drawn = [], []
        for which in octant.unique().tolist():
            offset = torch.tensor([which & 1, which >> 1 & 1, which >> 2 & 1]).to(corner)
            child = split(rows[octant == which], corner + half * offset, half, depth + 1)
            children.append(child)
            drawn.append(cells[child].gaussians)
        # Merging what the children draw costs less than merging the scene at each level.
        cube = edge / merge_resolution
        merged = merge_gaussians(Gaussians.cat(drawn), cube)
        error = max(cube, *(cells[child].error for child in children))
        boxes = torch.stack([box_of(merged), *(cells[child].box for child in children)])
        box = torch.stack([boxes[:, 0].amin(0), boxes[:, 1].amax(0)])
        cells[number] = LodCell(merged, box, error, depth, children)
        return number

    split(torch.arange(len(g), device=g.device), low, edge, 0)
    return GaussianLodTree(cells)


def merge_gaussians(gaussians: Gaussians, cube: float) -> Gaussians:
    """One Gaussian for all whose means lie in the same cube, with the same first moments.

    Mean, covariance, colour and features are means weighted by opacity times surface; the
    opacity is what spreads the summed opacity times surface over the merged surface, and
    where that would exceed 1, the merged Gaussian grows instead.

    Args:
        gaussians: Of any kind.
        cube: Edge of the cubes in world units.
    """
    g = gaussians
    keys = ((g.means - g.means.amin(0)) / cube).floor().long()
    _, group = keys.unique(dim=0, return_inverse=True)
    count = int(group.max()) + 1 if len(g) else 0
    if count == len(g):
        return g
    surface = _surface(g.scales)
    weights = (g.opacities * surface).clamp_min(_EPS)
    total = weights.new_zeros(count).index_add_(0, group, weights)
    share = weights / total[group]  # (N,)

    def mean(values: Tensor) -> Tensor:
        out = values.new_zeros(count, *values.shape[1:])
        flat = values.flatten(1) * share[:, None]
        return out.flatten(1).index_add_(0, group, flat).reshape(out.shape)

    means = mean(g.means)
    offsets = g.means - means[group]
    spread = mean(g.covariances + offsets[:, :, None] * offsets[:, None, :])
    spread = (spread + spread.transpose(1, 2)) / 2
    variances, axes = torch.linalg.eigh(spread.double())
    axes = axes * torch.linalg.det(axes).sign()[:, None, None]  # a rotation, no mirror
    scales = variances.clamp_min(_EPS).sqrt().to(g.scales)
    opacities = total / _surface(scales).clamp_min(_EPS)
    alone = torch.bincount(group, minlength=count) == 1
    # What opaque neighbours cover leaves gaps between Gaussians of the same moments; what
    # exceeds an opacity of 1 widens them instead.
    wider = opacities.clamp_min(1).sqrt().clamp_max(_MAX_WIDENING)
    scales = torch.where(alone[:, None], scales, scales * wider[:, None])
    opacities = opacities.clamp(0, _MAX_OPACITY)
    opacities[alone] = g.opacities.new_zeros(count).index_add_(0, group, g.opacities)[alone]

    def mean_of(values: Tensor | None) -> Tensor | None:
        return None if values is None else mean(values)

    return Gaussians(
        frame=g.frame,
        means=means,
        quats=rotmat_to_quat(axes).to(g.quats),
        scales=scales,
        opacities=opacities,
        sh0=mean_of(g.sh0),
        shN=mean_of(g.shN),
        features=mean_of(g.features),
    )


def select_cells(
    tree: GaussianLodTree,
    position: Tensor,
    focal: float,
    budget: int,
    max_error: float = 2.0,
    view_direction: Tensor | None = None,
    half_angle: float = 3.15,
) -> list[int]:
    """Cells that draw the scene from a place, finest where they matter most.

    Starts with the root and replaces the cell with the largest error on the screen by its
    children, until all errors are below ``max_error`` or the budget is spent.

    Args:
        tree: Of :func:`build_lod_tree`.
        position: ``(3,)`` of the camera.
        focal: Of the camera in px.
        budget: Gaussians to draw at most (the root is drawn in any case).
        max_error: In px. Defaults to 2.
        view_direction: ``(3,)`` unit vector; cells that lie outside of the cone about it are
            left coarse. Defaults to None: all directions count.
        half_angle: Of that cone, in radians. Defaults to all directions.

    Returns:
        Numbers of cells, sorted; together they cover the scene once.
    """
    position = position.detach().cpu().double()

    def pixels(number: int) -> float:
        cell = tree.cells[number]
        low, high = cell.box.cpu().double()
        nearest = position.clamp(low, high)
        distance = float((nearest - position).norm())
        if view_direction is not None and distance > 0:
            to_middle = (low + high) / 2 - position
            radius = float((high - low).norm()) / 2
            length = float(to_middle.norm())
            if length > radius:
                cosine = float(to_middle @ view_direction.cpu().double()) / length
                angle = (
                    torch.tensor(cosine).clamp(-1, 1).acos() - torch.tensor(radius / length).asin()
                )
                if float(angle) > half_angle:
                    return 0.0
        return cell.error * focal / max(distance, 1e-6)

    chosen = {0}
    drawn = len(tree.cells[0].gaussians)
    queue = [(-pixels(0), 0)]
    while queue:
        error, number = heapq.heappop(queue)
        cell = tree.cells[number]
        if -error <= max_error:
            break
        more = sum(len(tree.cells[child].gaussians) for child in cell.children)
        if drawn + more - len(cell.gaussians) > budget:
            continue  # a cell with fewer children may still fit
        drawn += more - len(cell.gaussians)
        chosen.remove(number)
        for child in cell.children:
            chosen.add(child)
            if tree.cells[child].children:
                heapq.heappush(queue, (-pixels(child), child))
    return sorted(chosen)


def _surface(scales: Tensor) -> Tensor:
    """``(N,)`` measure of the surface of ellipsoids."""
    a, b, c = scales.unbind(-1)
    return a * b + b * c + c * a


def box_of(gaussians: Gaussians) -> Tensor:
    """``(2, 3)`` lower and upper corner of Gaussians up to three standard deviations."""
    reach = gaussians.covariances.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt() * _BOX_SIGMAS
    low, high = (gaussians.means - reach).amin(0), (gaussians.means + reach).amax(0)
    return torch.stack([low, high]).cpu()
