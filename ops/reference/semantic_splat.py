"""Torch oracle of ``semantic_splat``: all (point, Gaussian) pairs within the cell radius."""

import torch
from torch import Tensor

MIN_MASS = 1e-9
MAX_OCCUPANCY = 1 - 1e-7
CHUNK_PAIRS = 1 << 24


def acting_pairs(
    points: Tensor,
    means: Tensor,
    radii: Tensor,
    vol_range: list[float],
    voxel_size: list[float],
    grid_shape: list[int],
) -> tuple[Tensor, Tensor]:
    """Indices (point [M], Gaussian [M]) of pairs whose cells differ by at most the radius."""
    lo = points.new_tensor(vol_range[:3])
    size, dims = points.new_tensor(voxel_size), torch.tensor(grid_shape, device=points.device)
    cells = ((points - lo) / size).nan_to_num(-1.0)
    inside = ((points >= lo) & (cells < dims)).all(-1)
    limit = 2.0**28
    mean_cells = ((means - lo) / size).clamp(-limit, limit).nan_to_num(2 * limit).trunc()
    cells = cells.clamp(-limit, limit).trunc()
    found = []
    step = max(1, CHUNK_PAIRS // max(1, len(means)))
    for start in range(0, len(points), step):
        near = (cells[start : start + step, None] - mean_cells).abs() <= radii[:, None]
        near = near.all(-1) & inside[start : start + step, None]
        pair = near.nonzero()
        found.append(pair + torch.tensor([start, 0], device=points.device))
    pairs = torch.cat(found) if found else torch.zeros(0, 2, dtype=torch.long)
    return pairs[:, 0], pairs[:, 1]


def semantic_splat(
    points: Tensor,
    means: Tensor,
    precis: Tensor,
    amps: Tensor,
    semantics: Tensor,
    radii: Tensor,
    vol_range: list[float],
    voxel_size: list[float],
    grid_shape: list[int],
    probabilistic: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Arguments and results of the native operator."""
    p, g = acting_pairs(points.detach(), means.detach(), radii, vol_range, voxel_size, grid_shape)
    offset = points[p] - means[g]
    e = torch.exp(-0.5 * torch.einsum("mi,mij,mj->m", offset, precis[g], offset))
    weight = amps[g] * e
    n, channels = len(points), semantics.shape[1]
    logits = points.new_zeros(n, channels).index_add(0, p, weight[:, None] * semantics[g])
    if not probabilistic:
        none = points.new_zeros(0)
        return logits, none, none, none
    mass = points.new_zeros(n).index_add(0, p, weight)
    density = points.new_zeros(n).index_add(0, p, e)
    log_miss = torch.log1p(-(e + (e.clamp(max=MAX_OCCUPANCY) - e).detach()))
    complement = points.new_zeros(n).index_add(0, p, log_miss).exp()
    uniform = points.new_full((channels,), 1 / max(1, channels - 1))
    uniform[-1] = 0
    has_mass = mass > MIN_MASS
    logits = logits / torch.where(has_mass, mass, torch.ones_like(mass))[:, None]
    return torch.where(has_mass[:, None], logits, uniform), complement, density, mass
