"""Inputs of the operator benchmarks: random splats with fixed seeds, and the garden capture."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import mmcity_ops
from mmcity.utils.cli import find_root

TILE = 16
# Name: (seed, Gaussians, width, height, smallest and largest standard deviation in pixels, and
# the published figures in ms of one AMD EPYC (Zen 4, 2.6 GHz) core: prototype forward, backward,
# OpenSplat forward, backward). Deviations per axis are log-uniform, angles and centres uniform,
# opacities uniform in [0.1, 1]; the widest deviation is chosen so that the number of box
# intersections is that of the published table (25.9 k, 69.8 k, 216.7 k, 443.4 k).
RANDOM = {
    "10k-256-small": (0, 10_000, 256, 256, 0.3, 3.058, (3.6, 6.9, 31.5, 15.0)),
    "10k-256-large": (0, 10_000, 256, 256, 1.5, 7.956, (11.0, 20.0, 120.5, 70.0)),
    "100k-512": (0, 100_000, 512, 512, 0.3, 1.696, (38.0, 55.0, 382.0, 122.0)),
    "100k-1024": (0, 100_000, 1024, 768, 1.0, 4.742, (95.0, 160.0, 2001.0, 564.0)),
}
GARDEN_PUBLISHED = (44.0, 75.0, 366.0, 211.0)
LOW_PASS = 0.3


@dataclass
class Workload:
    """Projected rows of one image."""

    name: str
    means2d: Tensor
    conics: Tensor
    colors: Tensor
    opacities: Tensor
    radii: Tensor
    depths: Tensor
    width: int
    height: int
    published: tuple[float, float, float, float] | None = None

    def to(self, device: str) -> "Workload":
        """The rows on a device."""
        values = {
            key: value.to(device) if isinstance(value, Tensor) else value
            for key, value in vars(self).items()
        }
        return Workload(**values)

    @property
    def tiles(self) -> tuple[int, int]:
        """Tiles across and down."""
        return -(-self.width // TILE), -(-self.height // TILE)


def random_workload(name: str) -> Workload:
    """Screen-space splats with the statistics of ``RANDOM``."""
    seed, n, width, height, small, large, published = RANDOM[name]
    g = torch.Generator().manual_seed(seed)
    means = torch.rand(n, 2, generator=g) * torch.tensor([width, height], dtype=torch.float32)
    span = math.log(large) - math.log(small)
    sigma = torch.exp(torch.rand(n, 2, generator=g) * span + math.log(small))
    angle = torch.rand(n, generator=g) * math.pi
    c, s = angle.cos(), angle.sin()
    a, b = (sigma**2 + LOW_PASS).unbind(-1)
    xx, yy, xy = c * c * a + s * s * b, s * s * a + c * c * b, c * s * (a - b)
    det = xx * yy - xy * xy
    conics = torch.stack([yy, -xy, xx], -1) / det[:, None]
    opacities = torch.rand(n, generator=g) * 0.9 + 0.1
    radii = torch.ceil(3.33 * torch.stack([xx, yy], -1).sqrt()).int()
    depths = torch.rand(n, generator=g) * 10 + 1
    colors = torch.rand(n, 3, generator=g)
    rows = (means, conics, colors, opacities, radii, depths)
    return Workload(name, *(row[None] for row in rows), width, height, published)


def garden_folder() -> Path | None:
    """The garden capture below ``MMCITY_DATA``, or None."""
    default = find_root().parent / "shared" / "data"
    folder = Path(os.environ.get("MMCITY_DATA", default)) / "garden"
    return folder if (folder / "garden.npz").exists() else None


def garden_workload(name: str, channels: int = 3, factor: float = 1.0) -> Workload:
    """View 0 of the garden points as isotropic splats (data README's standard model)."""
    folder = garden_folder()
    assert folder is not None
    with np.load(folder / "garden.npz") as data:
        means = torch.from_numpy(data["means"])
        scale = torch.from_numpy(np.clip(np.sqrt(data["mean_dist2"]), 1e-4, 0.015))
        colors = torch.from_numpy(data["colors"]).float() / 255
        viewmats, Ks = torch.from_numpy(data["viewmats"][:1]), torch.from_numpy(data["Ks"][:1])
        width, height = int(data["width"]), int(data["height"])
    Ks = Ks.clone()
    Ks[:, :2] *= factor
    width, height = round(width * factor), round(height * factor)
    quats = torch.zeros(len(means), 4)
    quats[:, 0] = 1
    radii, means2d, depths, conics, _ = mmcity_ops.fully_fused_projection(
        means, None, quats, scale.float()[:, None].repeat(1, 3), viewmats, Ks, width=width,
        height=height,
    )  # fmt: skip
    seen = (radii > 0).all(-1)[0]
    if channels != 3:
        colors = torch.rand(len(means), channels, generator=torch.Generator().manual_seed(0))
    return Workload(
        name, means2d[:, seen], conics[:, seen], colors[seen][None].contiguous(),
        opacities=torch.full((1, int(seen.sum())), 0.9), radii=radii[:, seen],
        depths=depths[:, seen], width=width, height=height,
        published=GARDEN_PUBLISHED if channels == 3 and factor == 1.0 else None,
    )  # fmt: skip
