"""Time the native operators: rasterizer workloads, image and voxel operators, a training step.

Figures are the minimum over repetitions, in milliseconds of :class:`~.clocks.Clock`. Where CPU
time is measured threads that wait should sleep (``OMP_WAIT_POLICY=PASSIVE``).
"""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import mmcity_ops
from mmcity.utils.device import device_at_hand
from mmcity.utils.markdown import markdown_table

from .clocks import Clock, best_ms
from .ops_workloads import RANDOM, TILE, Workload, garden_folder, garden_workload, random_workload

GARDEN = {
    "garden-view0": (3, 1.0),
    "garden-hires": (3, 1920 / 648),
    "garden-32ch": (32, 1.0),
    "garden-128ch": (128, 1.0),
    "garden-512ch": (512, 1.0),
}
REFERENCE_LIMIT = 500_000  # intersections up to which the torch reference is timed


@dataclass
class _Settings:
    """Settings of a measurement."""

    backend: str
    against: str
    device: str
    repeat: int
    only: Sequence[str]
    clock: Clock

    def wants(self, name: str) -> bool:
        """Whether a workload was asked for."""
        return not self.only or any(part in name for part in self.only)


def device_name(device: str) -> str:
    """Name that the maker gave the processor or GPU."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def choose_backend(name: str) -> None:
    """Let the operators run by ``name`` from now on."""
    os.environ["MMCITY_OPS_BACKEND"] = name


def raster_times(work: Workload, repeat: int, clock: Clock) -> dict[str, float]:
    """Milliseconds of tile lists, forward and backward with cotangent 1."""
    tw, th = work.tiles
    best = {"lists": float("inf"), "fwd": float("inf"), "bwd": float("inf")}
    rows = (work.means2d, work.conics, work.colors, work.opacities)
    for _ in range(repeat):
        elapsed, lists = clock(
            lambda: mmcity_ops.tile_lists(
                work.means2d, work.radii, work.depths, TILE, tw, th, conics=work.conics,
                opacities=work.opacities,
            )
        )  # fmt: skip
        best["lists"] = min(best["lists"], elapsed)
        leaves = [row.detach().requires_grad_() for row in rows]
        elapsed, images = clock(
            lambda leaves=leaves, lists=lists: mmcity_ops.rasterize_to_pixels(
                *leaves, work.width, work.height, TILE, lists.isect_offsets, lists.flatten_ids
            )
        )
        best["fwd"] = min(best["fwd"], elapsed)
        ones = [torch.ones_like(image) for image in images]
        elapsed, _ = clock(
            lambda images=images, ones=ones: torch.autograd.backward(list(images), ones)
        )
        best["bwd"] = min(best["bwd"], elapsed)
    return best


def time_raster(work: Workload, settings: _Settings) -> dict[str, Any]:
    """One row of the rasterizer table."""
    choose_backend(settings.backend)
    tw, th = work.tiles
    boxes = mmcity_ops.isect_tiles(work.means2d, work.radii, work.depths, TILE, tw, th)[1]
    exact = mmcity_ops.tile_lists(
        work.means2d, work.radii, work.depths, TILE, tw, th, conics=work.conics,
        opacities=work.opacities,
    )  # fmt: skip
    row: dict[str, Any] = {
        "name": work.name,
        "channels": work.colors.shape[-1],
        "visible": work.means2d.shape[1],
        "box_isects": len(boxes),
        "isects": len(exact.flatten_ids),
        "published_ms": work.published,
    } | raster_times(work, settings.repeat, settings.clock)
    small = len(boxes) <= REFERENCE_LIMIT
    if settings.against == "reference" and small and work.colors.shape[-1] == 3:
        choose_backend("reference")
        other = raster_times(work, 1 if len(boxes) > 50_000 else 2, settings.clock)
        choose_backend(settings.backend)
        row["reference"] = other
        row["speedup"] = sum(other.values()) / sum(row[key] for key in other)
    return row


def time_gsplat(settings: _Settings) -> list[dict[str, Any]]:
    """Forward + backward of ``rasterization``, ours against gsplat's, on the garden view."""
    rows, device = [], settings.device
    g = torch.Generator().manual_seed(0)
    for n, size in ((1_000_000, (1920, 1080)), (5_000_000, (1920, 1080))):
        means = (torch.rand(n, 3, generator=g) * 8 - 4 + torch.tensor([0, 0, 6.0])).to(
            settings.device
        )
        quats = torch.randn(n, 4, generator=g).to(device)
        scales = (torch.rand(n, 3, generator=g) * 0.01 + 0.001).to(device)
        opacities, colors = (torch.rand(n, generator=g), torch.rand(n, 3, generator=g))
        leaves = [means, quats, scales, opacities.to(device), colors.to(device)]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        width, height = size
        K = torch.tensor([[1000.0, 0, width / 2], [0, 1000.0, height / 2], [0, 0, 1]])
        row: dict[str, Any] = {"name": f"random-{n // 1_000_000}M-1080p"}
        for name in ("mmcity", "gsplat"):

            def step(name=name, leaves=leaves, K=K, width=width, height=height):
                image = mmcity_ops.rasterization(
                    *leaves, torch.eye(4, device=device)[None], K.to(device)[None],
                    width, height, implementation=name,
                )[0]  # fmt: skip
                image.sum().backward()

            row[name] = best_ms(step, settings.repeat, settings.clock)
        row["speedup"] = row["gsplat"] / row["mmcity"]
        rows.append(row)
    return rows


def time_pair(name: str, forward: Callable, backward: bool, settings: _Settings) -> dict[str, Any]:
    """Forward, and backward of the sum, of one operator; the reference beside it."""
    row: dict[str, Any] = {"name": name}
    for key, backend in (("native", settings.backend), ("reference", "reference")):
        if key == "reference" and settings.against != "reference":
            continue
        choose_backend(backend)
        fwd = bwd = float("inf")
        for _ in range(settings.repeat if key == "native" else 2):
            elapsed, out = settings.clock(forward)
            fwd = min(fwd, elapsed)
            if backward:
                loss = sum(x.sum() for x in (out if isinstance(out, tuple) else (out,)))
                bwd = min(bwd, settings.clock(loss.backward)[0])
        row[key] = {"fwd": fwd, "bwd": bwd if backward else 0.0}
    choose_backend(settings.backend)
    if "reference" in row:
        row["speedup"] = sum(row["reference"].values()) / sum(row["native"].values())
    return row


def other_operators(settings: _Settings) -> list[dict[str, Any]]:
    """SSIM, k-NN and the voxelizer at the sizes that the targets name."""
    g = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.rand(*shape, generator=g).to(settings.device)

    first, second = rand(1, 3, 512, 512).requires_grad_(), rand(1, 3, 512, 512)
    jobs: dict[str, tuple[Callable, bool]] = {
        "fused_ssim 3x512x512": (lambda: mmcity_ops.fused_ssim(first, second), True)
    }
    cloud = rand(20_000, 3)
    jobs["knn_mean_dist2 20 k"] = (lambda: mmcity_ops.knn_mean_dist2(cloud), False)
    vol_range, voxel = [-40.0, -40.0, -1.0, 40.0, 40.0, 5.4], 0.4
    n, channels = 1800, 18
    extent = torch.tensor([80.0, 80.0, 6.4], device=settings.device)
    centres = rand(n, 3) * extent + torch.tensor(vol_range[:3], device=settings.device)
    leaves = [centres, rand(n), rand(n, channels), rand(n, 4) - 0.5, rand(n, 3) * 0.9 + 0.1]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    jobs["gaussians_to_voxels 1800 x 18, 200x200x16"] = (
        lambda: mmcity_ops.gaussians_to_voxels(
            *leaves[:3], quats=leaves[3], scales=leaves[4], vol_range=vol_range, voxel_size=voxel
        ),
        True,
    )
    return [
        time_pair(name, forward, backward, settings)
        for name, (forward, backward) in jobs.items()
        if settings.wants(name)
    ]


def training_step(settings: _Settings) -> dict[str, Any]:
    """Stages of one iteration at 100 k Gaussians, 480 x 320, SH degree 3, L1 + SSIM, Adam."""
    n, width, height = 100_000, 480, 320
    g = torch.Generator().manual_seed(0)
    params = {
        "means": (torch.rand(n, 3, generator=g) - 0.5) * torch.tensor([6.0, 4.0, 4.0])
        + torch.tensor([0, 0, 6.0]),
        "quats": torch.randn(n, 4, generator=g),
        "log_scales": torch.rand(n, 3, generator=g) * 1.5 - 4.8,
        "logits": torch.randn(n, generator=g),
        "sh0": torch.rand(n, 1, 3, generator=g),
        "shN": torch.randn(n, 15, 3, generator=g) * 0.05,
    }
    params = {key: value.to(settings.device).requires_grad_() for key, value in params.items()}
    groups = [{"params": [value], "lr": 1e-3} for value in params.values()]
    optimizer = torch.optim.Adam(groups, fused=True)
    viewmats = torch.eye(4, device=settings.device)[None]
    K = torch.tensor([[400.0, 0, width / 2], [0, 400.0, height / 2], [0, 0, 1]])
    Ks = K.to(settings.device)[None]
    photo = torch.rand(1, height, width, 3, generator=g).to(settings.device)
    best: dict[str, float] = {}
    clock = settings.clock
    for _ in range(settings.repeat):
        times = {}
        times["render forward"], (image, _, meta) = clock(
            lambda: mmcity_ops.rasterization(
                params["means"], params["quats"], params["log_scales"].exp(),
                params["logits"].sigmoid(), (params["sh0"], params["shN"]), viewmats, Ks,
                width=width, height=height, sh_degree=3,
            )
        )  # fmt: skip
        leaf = image.detach().requires_grad_()

        def loss_of(leaf=leaf):
            similarity = mmcity_ops.fused_ssim(leaf.permute(0, 3, 1, 2), photo.permute(0, 3, 1, 2))
            loss = 0.8 * (leaf - photo).abs().mean() + 0.2 * (1 - similarity)
            loss.backward()

        times["loss forward + backward"], _ = clock(loss_of)
        times["render backward"], _ = clock(
            lambda image=image, leaf=leaf: image.backward(leaf.grad)
        )
        times["Adam"], _ = clock(optimizer.step)
        optimizer.zero_grad(set_to_none=True)
        times["total"] = sum(times.values())
        if not best or times["total"] < best["total"]:
            best = times
    return {"visible": len(meta["gaussian_ids"]), "isects": len(meta["flatten_ids"]), "ms": best}


@mock.patch.dict(os.environ)  # the backend that is chosen is forgotten again
def measure_ops(
    backend: str = "native",
    against: str = "reference",
    device: str | None = None,
    threads: int = 1,
    clock: str = "cpu",
    repeat: int = 7,
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure the operators.

    Args:
        backend: ``native`` or ``reference``. Defaults to ``native``.
        against: ``reference`` or ``gsplat`` beside it, or ``none``. Defaults to ``reference``.
        device: Defaults to ``cuda`` where there is one, else ``cpu``.
        threads: CPU threads. Defaults to 1.
        clock: ``cpu`` time, or ``wall`` time on an idle machine. Defaults to ``cpu``.
        repeat: Repetitions, of which the least counts. Defaults to 7.
        only: Names of workloads, or parts of names. Defaults to all.

    Returns:
        The machine and its settings; rows of ``raster``, ``other`` and ``gsplat``; the stages of
        ``training`` (None if it was left out). :func:`ops_tables` lays them out. The garden
        workloads are missing where the capture is not below ``MMCITY_DATA``.

    Raises:
        ValueError: If gsplat is asked for on a CPU, for which it has no code.
    """
    device = device_at_hand(device)
    torch.set_num_threads(threads)
    settings = _Settings(backend, against, device, repeat, only, Clock(device, clock == "wall"))
    if against == "gsplat" and not settings.clock.on_gpu:
        raise ValueError(f"device: expected cuda against gsplat, got {device}")
    choose_backend(backend)
    makers = {name: lambda name=name: random_workload(name) for name in RANDOM}
    if garden_folder():
        for name, (channels, factor) in GARDEN.items():
            makers[name] = lambda n=name, c=channels, f=factor: garden_workload(n, c, f)
    return {
        "device": device_name(device),
        "threads": threads,
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "repeat": repeat,
        "backend": backend,
        "clock": settings.clock.name,
        "raster": [
            time_raster(make().to(device), settings)
            for name, make in makers.items()
            if settings.wants(name)
        ],
        "other": other_operators(settings),
        "training": training_step(settings) if settings.wants("training") else None,
        "gsplat": time_gsplat(settings) if against == "gsplat" else [],
    }


_RASTER_COLUMNS = (
    "workload", "D", "visible", "box tiles", "exact tiles", "lists", "forward", "backward",
    "prototype f + b", "OpenSplat f + b", "against OpenSplat", "against reference",
)  # fmt: skip


def ops_tables(report: dict[str, Any]) -> str:
    """Markdown of all figures of :func:`measure_ops`."""
    parts = [
        f"Device: {report['device']}, {report['threads']} thread(s); torch {report['torch']}; "
        f"{report['date']}; minimum of {report['repeat']}; clock: {report['clock']}."
    ]
    if report["raster"]:
        parts.append(markdown_table(_RASTER_COLUMNS, map(_raster_cells, report["raster"])))
    if report["other"]:
        rows = [
            (row["name"], *(f"{row['native'][key]:.2f}" for key in ("fwd", "bwd")),
             f"{row['speedup']:.1f}x" if "speedup" in row else "")
            for row in report["other"]
        ]  # fmt: skip
        head = ("operator", "forward", "backward", "against reference")
        parts.append(markdown_table(head, rows))
    if step := report["training"]:
        parts.append(
            f"Training iteration, 100 k Gaussians, 480 x 320, SH degree 3 ({step['visible']} "
            f"visible, {step['isects']} intersections):"
        )
        rows = [(stage, f"{ms:.1f}") for stage, ms in step["ms"].items()]
        parts.append(markdown_table(("stage", "ms"), rows))
    parts += [
        f"{row['name']}: {row['mmcity']:.2f} ms, gsplat {row['gsplat']:.2f} ms, "
        f"{row['speedup']:.2f}x"
        for row in report["gsplat"]
    ]
    return "\n\n".join(parts) + "\n"


def _raster_cells(row: dict[str, Any]) -> list[object]:
    cells = [row[key] for key in ("name", "channels", "visible", "box_isects", "isects")]
    cells += [f"{row[key]:.2f}" for key in ("lists", "fwd", "bwd")]
    if row["published_ms"]:
        p = row["published_ms"]
        cells += [f"{p[0]:g} + {p[1]:g}", f"{p[2]:g} + {p[3]:g}"]
        cells.append(f"{(p[2] + p[3]) / (row['fwd'] + row['bwd']):.1f}x")
    else:
        cells += [""] * 3
    return [*cells, f"{row['speedup']:.0f}x" if "speedup" in row else ""]
