"""Time the voxel and point operators, the voxelizer beside a loop over Gaussians.

Figures are milliseconds of process CPU time, the minimum over repetitions.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

import mmcity_ops

LOW, HIGH, VOXEL = (-40.0, -40.0, -1.0), (40.0, 40.0, 5.4), 0.4
GRID = {"vol_range": [*LOW, *HIGH], "voxel_size": VOXEL}
# Gaussians, channels, smallest and largest standard deviation in metres (log-uniform)
SCENES = (
    (10_000, 18, 0.1, 0.4),
    (10_000, 18, 0.2, 0.8),
    (1800, 21, 0.2, 1.6),
    (1800, 21, 0.3, 3.0),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``tools/benchmark.py volumes``."""
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--repeat", type=int, default=7, help="repetitions, the minimum counts")
    parser.add_argument("--no-loop", action="store_true", help="leave the loop out")


def best_ms(function: Callable[[], object], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times) * 1e3


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


def time_voxelizer(args: argparse.Namespace) -> None:
    print("| Gaussians | channels | sigma (m) | forward | forward + backward | loop | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for n, channels, small, large in SCENES:
        scene = random_gaussians(n, channels, small, large)
        forward = best_ms(lambda s=scene: mmcity_ops.gaussians_to_voxels(**s, **GRID), args.repeat)
        leaves = {key: value.clone().requires_grad_() for key, value in scene.items()}

        def step(leaves=leaves):
            sum(x.sum() for x in mmcity_ops.gaussians_to_voxels(**leaves, **GRID)).backward()

        both = best_ms(step, args.repeat)
        loop, ratio = "", ""
        if not args.no_loop:
            elapsed = best_ms(lambda s=scene: loop_over_gaussians(**s), 1)
            loop, ratio = f"{elapsed:.0f}", f"{elapsed / forward:.0f}x"
        cells = (n, channels, f"{small}-{large}", f"{forward:.1f}", f"{both:.1f}", loop, ratio)
        print("| " + " | ".join(map(str, cells)) + " |")


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    torch.set_num_threads(args.threads)
    time_voxelizer(args)
    cloud = torch.rand(1_000_000, 3, generator=torch.Generator().manual_seed(0))
    print(f"knn_mean_dist2, 1 M points: {best_ms(lambda: mmcity_ops.knn_mean_dist2(cloud), 3):.0f}")
    bounds = [0.0, 0, 0, 1, 1, 1]
    coors = mmcity_ops.voxelize_dynamic(cloud, [0.01] * 3, bounds)
    jobs = {
        "voxelize_dynamic": lambda: mmcity_ops.voxelize_dynamic(cloud, [0.01] * 3, bounds),
        "voxelize_hard": lambda: mmcity_ops.voxelize_hard(cloud, [0.01] * 3, bounds, 8, 200_000),
        "scatter_reduce_voxels": lambda: mmcity_ops.scatter_reduce_voxels(cloud, coors),
    }
    for name, job in jobs.items():
        print(f"{name}, 1 M points: {best_ms(job, args.repeat):.0f}")
