"""Torch oracle of ``gaussians_to_voxels``: all (Gaussian, voxel) pairs as one list."""

import torch
from torch import Tensor


def index_boxes(
    means: Tensor,
    covars: Tensor,
    vol_range: Tensor,
    voxel_size: Tensor,
    dims: Tensor,
    extent: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Inclusive boxes: lower [N, 3], upper [N, 3], and whether they meet the volume [N]."""
    lo, hi = vol_range[:3], vol_range[3:]
    reach = extent * covars.diagonal(dim1=-2, dim2=-1).sqrt()
    lower, upper = means - reach, means + reach
    inside = ((upper > lo) & (lower < hi)).all(-1)

    def cells(x: Tensor) -> Tensor:
        x = torch.where(inside[:, None], x, lo)
        x = torch.minimum(torch.maximum(x, lo), hi)
        return torch.minimum(((x - lo) / voxel_size).long(), dims - 1)

    return cells(lower), cells(upper), inside


def pairs_in_boxes(first: Tensor, last: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """All (row, cell) pairs of inclusive boxes: row [M], cell [M, 3]; rows ascending."""
    size = (last - first + 1).clamp(min=0) * keep[:, None]
    count = size.prod(-1)
    row = torch.repeat_interleave(torch.arange(len(first), device=first.device), count)
    local = torch.arange(len(row), device=first.device) - (count.cumsum(0) - count)[row]
    size = size[row]
    z = local % size[:, 2]
    y = local // size[:, 2] % size[:, 1]
    x = local // (size[:, 2] * size[:, 1])
    return row, first[row] + torch.stack([x, y, z], -1)


def gaussians_to_voxels(
    means: Tensor,
    covars: Tensor,
    opacities: Tensor,
    features: Tensor,
    *,
    grid_shape: list[int],
    **options,
) -> tuple[Tensor, Tensor]:
    """Arguments and results of the native operator: means [B, N, 3] to density [B, X, Y, Z]."""
    results = [
        _one_sample(*sample, grid_shape=grid_shape, **options)
        for sample in zip(means, covars, opacities, features)
    ]
    if not results:
        empty = means.new_zeros(0, *grid_shape)
        return empty, means.new_zeros(0, *grid_shape, features.shape[-1])
    return tuple(torch.stack(parts) for parts in zip(*results))


def _one_sample(
    means: Tensor,
    covars: Tensor,
    opacities: Tensor,
    features: Tensor,
    *,
    vol_range: list[float],
    voxel_size: list[float],
    grid_shape: list[int],
    extent: float,
    eps: float,
    normalize: bool,
) -> tuple[Tensor, Tensor]:
    options = {"dtype": means.dtype, "device": means.device}
    bounds, size = torch.tensor(vol_range, **options), torch.tensor(voxel_size, **options)
    dims = torch.tensor(grid_shape, device=means.device)
    with torch.no_grad():
        row, cell = pairs_in_boxes(*index_boxes(means, covars, bounds, size, dims, extent))
    covars = (covars + covars.mT) / 2
    offset = bounds[:3] + (cell + 0.5) * size - means[row]  # (M, 3)
    kept = row.unique()  # Gaussians outside may be singular: they are not inverted
    place = torch.zeros(len(means), dtype=torch.long, device=means.device)
    place[kept] = torch.arange(len(kept), device=means.device)
    precis = torch.linalg.inv(covars[kept].double()).to(means.dtype)[place[row]]
    half_norm = 0.5 * torch.einsum("mi,mij,mj->m", offset, precis, offset)
    weight = opacities[row] * torch.exp(-half_norm)
    voxel = (cell[:, 0] * grid_shape[1] + cell[:, 1]) * grid_shape[2] + cell[:, 2]
    volume = grid_shape[0] * grid_shape[1] * grid_shape[2]
    density = means.new_zeros(volume).index_add(0, voxel, weight)
    out = means.new_zeros(volume, features.shape[-1])
    out = out.index_add(0, voxel, weight[:, None] * features[row])
    if normalize:
        out = out / density.clamp(min=eps)[:, None]
    return density.reshape(grid_shape), out.reshape(*grid_shape, -1)
