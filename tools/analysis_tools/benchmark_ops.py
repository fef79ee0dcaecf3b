"""Time the native operators: rasterizer workloads, image and voxel operators, a training step.

Figures are the minimum over repetitions. On the CPU the clock is the longest CPU time that any one
thread of the process spent (waiting threads sleep), which other programs on the machine hardly
disturb, or with ``--clock wall`` the time that passed, for an idle machine; on a GPU CUDA events.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from analysis_tools.ops_workloads import (
    RANDOM,
    TILE,
    Workload,
    garden_folder,
    garden_workload,
    random_workload,
)

import mmcity_ops

GARDEN = {
    "garden-view0": (3, 1.0),
    "garden-hires": (3, 1920 / 648),
    "garden-32ch": (32, 1.0),
    "garden-128ch": (128, 1.0),
    "garden-512ch": (512, 1.0),
}
CLOCKS = {"cpu": "longest CPU time of a thread", "wall": "wall time"}
REFERENCE_LIMIT = 500_000  # intersections up to which the torch reference is timed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``tools/benchmark.py ops``."""
    parser.add_argument("--backend", choices=["native", "reference"], default="native")
    parser.add_argument("--against", choices=["none", "reference", "gsplat"], default="reference")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument(
        "--clock", choices=["cpu", "wall"], default="cpu", help="wall needs an idle machine"
    )
    parser.add_argument("--repeat", type=int, default=7, help="repetitions, the minimum counts")
    parser.add_argument("--only", nargs="*", help="names of workloads, or parts of names")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")


class Clock:
    """Milliseconds of a call on one device."""

    def __init__(self, device: str, wall: bool = False) -> None:
        self.device = device
        self.wall = wall

    def __call__(self, function: Callable[[], Any]) -> tuple[float, Any]:
        if self.device.startswith("cuda"):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            result = function()
            end.record()
            torch.cuda.synchronize()
            return start.elapsed_time(end), result
        if self.wall:
            begin = time.perf_counter()
            result = function()
            return (time.perf_counter() - begin) * 1e3, result
        if torch.get_num_threads() == 1:
            begin = time.process_time()
            result = function()
            return (time.process_time() - begin) * 1e3, result
        before = thread_cpu_times()
        result = function()
        after = thread_cpu_times()
        return max(after[t] - before.get(t, 0.0) for t in after), result


def thread_cpu_times() -> dict[str, float]:
    """Milliseconds on a CPU of each thread of this process (Linux)."""
    times = {}
    for path in Path("/proc/self/task").iterdir():
        # The first field counts nanoseconds.
        times[path.name] = int((path / "schedstat").read_text().split()[0]) * 1e-6
    return times


def device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def choose_backend(name: str) -> None:
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


def time_raster(work: Workload, args: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    """One row of the rasterizer table."""
    choose_backend(args.backend)
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
    } | raster_times(work, args.repeat, clock)
    small = len(boxes) <= REFERENCE_LIMIT
    if args.against == "reference" and small and work.colors.shape[-1] == 3:
        choose_backend("reference")
        other = raster_times(work, 1 if len(boxes) > 50_000 else 2, clock)
        choose_backend(args.backend)
        row["reference"] = other
        row["speedup"] = sum(other.values()) / sum(row[key] for key in other)
    return row


def time_gsplat(args: argparse.Namespace, clock: Clock) -> list[dict[str, Any]]:
    """Forward + backward of ``rasterization``, ours against gsplat's, on the garden view."""
    if not args.device.startswith("cuda"):
        raise SystemExit("--against gsplat needs a CUDA device (gsplat has no CPU code)")
    rows = []
    g = torch.Generator().manual_seed(0)
    for n, size in ((1_000_000, (1920, 1080)), (5_000_000, (1920, 1080))):
        means = (torch.rand(n, 3, generator=g) * 8 - 4 + torch.tensor([0, 0, 6.0])).to(args.device)
        quats = torch.randn(n, 4, generator=g).to(args.device)
        scales = (torch.rand(n, 3, generator=g) * 0.01 + 0.001).to(args.device)
        opacities, colors = (torch.rand(n, generator=g), torch.rand(n, 3, generator=g))
        leaves = [means, quats, scales, opacities.to(args.device), colors.to(args.device)]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        width, height = size
        K = torch.tensor([[1000.0, 0, width / 2], [0, 1000.0, height / 2], [0, 0, 1]])
        row: dict[str, Any] = {"name": f"random-{n // 1_000_000}M-1080p"}
        for name in ("mmcity", "gsplat"):

            def step(name=name, leaves=leaves, K=K, width=width, height=height):
                image = mmcity_ops.rasterization(
                    *leaves, torch.eye(4, device=args.device)[None], K.to(args.device)[None],
                    width, height, implementation=name,
                )[0]  # fmt: skip
                image.sum().backward()

            row[name] = min(clock(step)[0] for _ in range(args.repeat))
        row["speedup"] = row["gsplat"] / row["mmcity"]
        rows.append(row)
    return rows


def time_pair(name: str, forward: Callable, backward: bool, args, clock: Clock) -> dict[str, Any]:
    """Forward, and backward of the sum, of one operator; the reference beside it."""
    row: dict[str, Any] = {"name": name}
    for key, backend in (("native", args.backend), ("reference", "reference")):
        if key == "reference" and args.against != "reference":
            continue
        choose_backend(backend)
        fwd = bwd = float("inf")
        for _ in range(args.repeat if key == "native" else 2):
            elapsed, out = clock(forward)
            fwd = min(fwd, elapsed)
            if backward:
                loss = sum(x.sum() for x in (out if isinstance(out, tuple) else (out,)))
                bwd = min(bwd, clock(loss.backward)[0])
        row[key] = {"fwd": fwd, "bwd": bwd if backward else 0.0}
    choose_backend(args.backend)
    if "reference" in row:
        row["speedup"] = sum(row["reference"].values()) / sum(row["native"].values())
    return row


def other_operators(args: argparse.Namespace, clock: Clock) -> list[dict[str, Any]]:
    """SSIM, k-NN and the voxelizer at the sizes that the targets name."""
    g = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.rand(*shape, generator=g).to(args.device)

    first, second = rand(1, 3, 512, 512).requires_grad_(), rand(1, 3, 512, 512)
    jobs: dict[str, tuple[Callable, bool]] = {
        "fused_ssim 3x512x512": (lambda: mmcity_ops.fused_ssim(first, second), True)
    }
    cloud = rand(20_000, 3)
    jobs["knn_mean_dist2 20 k"] = (lambda: mmcity_ops.knn_mean_dist2(cloud), False)
    vol_range, voxel = [-40.0, -40.0, -1.0, 40.0, 40.0, 5.4], 0.4
    n, channels = 1800, 18
    extent = torch.tensor([80.0, 80.0, 6.4], device=args.device)
    centres = rand(n, 3) * extent + torch.tensor(vol_range[:3], device=args.device)
    leaves = [centres, rand(n), rand(n, channels), rand(n, 4) - 0.5, rand(n, 3) * 0.9 + 0.1]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    jobs["gaussians_to_voxels 1800 x 18, 200x200x16"] = (
        lambda: mmcity_ops.gaussians_to_voxels(
            *leaves[:3], quats=leaves[3], scales=leaves[4], vol_range=vol_range, voxel_size=voxel
        ),
        True,
    )
    return [
        time_pair(name, forward, backward, args, clock)
        for name, (forward, backward) in jobs.items()
        if wanted(name, args)
    ]


def training_step(args: argparse.Namespace, clock: Clock) -> dict[str, Any]:
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
    params = {key: value.to(args.device).requires_grad_() for key, value in params.items()}
    groups = [{"params": [value], "lr": 1e-3} for value in params.values()]
    optimizer = torch.optim.Adam(groups, fused=True)
    viewmats = torch.eye(4, device=args.device)[None]
    K = torch.tensor([[400.0, 0, width / 2], [0, 400.0, height / 2], [0, 0, 1]])
    Ks = K.to(args.device)[None]
    photo = torch.rand(1, height, width, 3, generator=g).to(args.device)
    best: dict[str, float] = {}
    for _ in range(args.repeat):
        times = {}
        times["render forward"], (image, _, meta) = clock(
            lambda: mmcity_ops.rasterization(
                params["means"], params["quats"], params["log_scales"].exp(),
                params["logits"].sigmoid(), (params["sh0"], params["shN"]), viewmats, Ks, width,
                height, sh_degree=3,
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


def wanted(name: str, args: argparse.Namespace) -> bool:
    return not args.only or any(part in name for part in args.only)


def tables(report: dict[str, Any]) -> str:
    """Markdown of all figures."""
    lines = [
        f"Device: {report['device']}, {report['threads']} thread(s); torch {report['torch']}; "
        f"{report['date']}; minimum of {report['repeat']}; clock: {report['clock']}.",
        "",
    ]
    if report["raster"]:
        lines += [
            "| workload | D | visible | box tiles | exact tiles | lists | forward | backward |"
            " prototype f + b | OpenSplat f + b | against OpenSplat | against reference |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
    for row in report["raster"]:
        quoted, ratio = ("", ""), ""
        if row["published_ms"]:
            p = row["published_ms"]
            quoted = (f"{p[0]:g} + {p[1]:g}", f"{p[2]:g} + {p[3]:g}")
            ratio = f"{(p[2] + p[3]) / (row['fwd'] + row['bwd']):.1f}x"
        speedup = f"{row['speedup']:.0f}x" if "speedup" in row else ""
        lines.append(
            f"| {row['name']} | {row['channels']} | {row['visible']} | {row['box_isects']} | "
            f"{row['isects']} | {row['lists']:.2f} | {row['fwd']:.2f} | {row['bwd']:.2f} | "
            f"{quoted[0]} | {quoted[1]} | {ratio} | {speedup} |"
        )
    if report["other"]:
        lines += ["", "| operator | forward | backward | against reference |"]
        lines += ["| --- | --- | --- | --- |"]
    for row in report["other"]:
        speedup = f"{row['speedup']:.1f}x" if "speedup" in row else ""
        native = row["native"]
        lines.append(f"| {row['name']} | {native['fwd']:.2f} | {native['bwd']:.2f} | {speedup} |")
    if report["training"]:
        step = report["training"]
        lines += [
            "",
            f"Training iteration, 100 k Gaussians, 480 x 320, SH degree 3 ({step['visible']} "
            f"visible, {step['isects']} intersections):",
            "",
            "| stage | ms |",
            "| --- | --- |",
        ]
        lines += [f"| {stage} | {ms:.1f} |" for stage, ms in step["ms"].items()]
    for row in report["gsplat"]:
        lines.append(
            f"{row['name']}: {row['mmcity']:.2f} ms, gsplat {row['gsplat']:.2f} ms, "
            f"{row['speedup']:.2f}x"
        )
    return "\n".join(lines) + "\n"


def run(args: argparse.Namespace) -> None:
    """Measure, print the tables, and write the files asked for."""
    torch.set_num_threads(args.threads)
    choose_backend(args.backend)
    clock = Clock(args.device, args.clock == "wall")
    on_gpu = args.device.startswith("cuda")
    report: dict[str, Any] = {
        "device": device_name(args.device),
        "threads": args.threads,
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "repeat": args.repeat,
        "backend": args.backend,
        "clock": "CUDA events" if on_gpu else CLOCKS[args.clock],
        "raster": [],
        "other": [],
        "training": None,
        "gsplat": [],
    }
    makers = {name: lambda name=name: random_workload(name) for name in RANDOM}
    if garden_folder():
        for name, (channels, factor) in GARDEN.items():
            makers[name] = lambda n=name, c=channels, f=factor: garden_workload(n, c, f)
    else:
        print("garden capture not found below MMCITY_DATA: its workloads are left out")
    for name, make in makers.items():
        if wanted(name, args):
            report["raster"].append(time_raster(make().to(args.device), args, clock))
    report["other"] = other_operators(args, clock)
    if wanted("training", args):
        report["training"] = training_step(args, clock)
    if args.against == "gsplat":
        report["gsplat"] = time_gsplat(args, clock)
    text = tables(report)
    print(text)
    for path, content in ((args.json, json.dumps(report, indent=2)), (args.markdown, text)):
        if path:
            from mmcity.utils.fileio import atomic_path

            with atomic_path(path) as temporary:
                Path(temporary).write_text(content)
