"""Time the voxel and point operators, the voxelizer beside a loop over Gaussians.

Figures are milliseconds of process CPU time, the minimum over repetitions.
"""

import torch
from torch import Tensor

import mmcity_ops

from .clocks import best_ms

LOW, HIGH, VOXEL = (-40.0, -40.0, -1.0), (40.0, 40.0, 5.4), 0.4
GRID = {"vol_range": [*LOW, *HIGH], "voxel_size": VOXEL}
# Gaussians, channels, smallest and largest standard deviation in metres (log-uniform)
SCENES = (
    (10_000, 18, 0.1, 0.4),
    (10_000, 18, 0.2, 0.8),
    (1800, 21, 0.2, 1.6),
    (1800, 21, 0.3, 3.0),
)


def random_gaussians(n: int, channels: int, small: float, large: float) -> dict[str, Tensor]:
    """Gaussians spread evenly over the volume."""
    g = torch.Generator().manual_seed(0)
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    return {
        "means": low + (high - low) * torch.rand(n, 3, generator=g),
        "opacities": torch.rand(n, generator=g),
        "features": torch.rand(n, channels, generator=g).softmax(-1),
        "quats": torch.randn(n, 4, generator=g),
        "scales": small * (large / small) ** torch.rand(n, 3, generator=g),
    }


def loop_over_gaussians(
    means: Tensor, opacities: Tensor, features: Tensor, quats: Tensor, scales: Tensor
) -> tuple[Tensor, Tensor]:
    """The voxelizer as a loop that adds one Gaussian at a time to its box."""
    covars = mmcity_ops.quat_scale_to_covar_preci(quats, scales)[0]
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    dims = ((high - low) / VOXEL).round().long()
    axes = [low[d] + (torch.arange(dims[d]) + 0.5) * VOXEL for d in range(3)]
    centres = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    density = torch.zeros(*dims, 1)
    total = torch.zeros(*dims, features.shape[1])
    for mean, opacity, feature, covar in zip(means, opacities, features, covars):
        reach = 3 * covar.diagonal().sqrt()
        if ((mean + reach <= low) | (mean - reach >= high)).any():
            continue
        first = ((torch.clamp(mean - reach, low, high) - low) / VOXEL).long()
        last = ((torch.clamp(mean + reach, low, high) - low) / VOXEL).long()
        last = torch.minimum(last + 1, dims)
        box = tuple(slice(int(a), int(b)) for a, b in zip(first, last))
        offset = centres[box] - mean
        power = torch.einsum("xyzi,ij,xyzj->xyz", offset, torch.linalg.inv(covar), offset)
        weight = (opacity * torch.exp(-0.5 * power))[..., None]
        density[box] += weight
        total[box] += weight * feature
    return density, total / density.clamp(min=1e-6)


def measure_volumes(
    threads: int = 1, repeat: int = 7, with_loop: bool = True
) -> tuple[list[dict], dict[str, float]]:
    """Time the voxelizer, forward and backward, and the operators on a million points.

    Args:
        threads: CPU threads. Defaults to 1.
        repeat: Repetitions, of which the least counts. Defaults to 7.
        with_loop: Time the loop over Gaussians too. Defaults to True.

    Returns:
        A row per scene of Gaussians, with ``forward``, ``both`` and (with the loop) ``loop`` in
        milliseconds, and milliseconds by operator on points.
    """
    torch.set_num_threads(threads)
    rows = []
    for n, channels, small, large in SCENES:
        scene = random_gaussians(n, channels, small, large)
        leaves = {key: value.clone().requires_grad_() for key, value in scene.items()}

        def forward(scene=scene):
            return mmcity_ops.gaussians_to_voxels(**scene, **GRID)

        def both(leaves=leaves):
            sum(x.sum() for x in mmcity_ops.gaussians_to_voxels(**leaves, **GRID)).backward()

        row = {"Gaussians": n, "channels": channels, "sigma": f"{small}-{large}"}
        row |= {"forward": best_ms(forward, repeat), "both": best_ms(both, repeat)}
        if with_loop:
            row["loop"] = best_ms(lambda s=scene: loop_over_gaussians(**s), 1)
        rows.append(row)
    cloud = torch.rand(1_000_000, 3, generator=torch.Generator().manual_seed(0))
    grid = ([0.01] * 3, [0.0, 0, 0, 1, 1, 1])
    coors = mmcity_ops.voxelize_dynamic(cloud, *grid)
    points = {
        "knn_mean_dist2": best_ms(lambda: mmcity_ops.knn_mean_dist2(cloud), 3),
        "voxelize_dynamic": best_ms(lambda: mmcity_ops.voxelize_dynamic(cloud, *grid), repeat),
        "voxelize_hard": best_ms(
            lambda: mmcity_ops.voxelize_hard(cloud, *grid, 8, 200_000), repeat
        ),
        "scatter_reduce_voxels": best_ms(
            lambda: mmcity_ops.scatter_reduce_voxels(cloud, coors), repeat
        ),
    }
    return rows, points
