"""Scenes of Gaussians trained on public captures by a fixed protocol, and two of them compared."""

import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mmcity.apis.scenes import SceneRenderer, export_scene
from mmcity.datasets import ColmapDataset
from mmcity.evaluation.functional import psnr
from mmcity.structures import Cameras, is_stray, read_gaussians, robust_bounds
from mmcity.utils.cli import UserError, find_root
from mmcity.utils.fileio import read_lines
from mmcity.utils.markdown import markdown_table

CONFIG = "3dgs_colmap_cpu"
#: Folder below ``MMCITY_DATA`` by the name of the scene.
SCENES = {"caliterra": "caliterra_aerial", "fox": "fox", "sceaux_castle": "sceaux_castle"}
#: Longer side of the pictures in px.
LONG_SIDE = 320
#: The config on small pictures, all schedules at a fifth of their length: under a minute a run.
OPTIONS = {
    "train_dataloader.dataset.resize.long_side": LONG_SIDE,
    "val_dataloader.dataset.resize.long_side": LONG_SIDE,
    "train_cfg.max_iters": 1000,
    "train_cfg.val_interval": 1000,
    "param_scheduler.0.end": 1000,
    "model.sh_degree_interval": 160,
    "model.resolution_schedule": [[0, 2], [240, 1]],
    "default_hooks.growth.strategy.max_gaussians": 30_000,
    "default_hooks.growth.strategy.refine_start": 60,
    "default_hooks.growth.strategy.refine_stop": 840,
    "default_hooks.growth.strategy.refine_every": 10,
    "default_hooks.checkpoint.interval": 1000,
}
#: Strays are counted from so many times half the longest edge of cameras and points on.
REACH = 10.0
#: Title, digits, and whether more is better (1), less (-1) or neither (0), by figure of a run.
FIGURES = {
    "psnr": ("PSNR (dB)", 2, 1),
    "ssim": ("SSIM", 4, 1),
    "psnr_cc": ("PSNR, colour-corrected (dB)", 2, 1),
    "gaussians": ("Gaussians", 0, 0),
    "strays": ("strays", 0, -1),
    "spz_psnr": ("SPZ to PLY (dB)", 1, 1),
    "cpu_seconds": ("CPU time (s)", 0, -1),
}


def find_scene(name: str) -> Path:
    """Folder of a scene below ``MMCITY_DATA``; caliterra also lies in the source tree.

    Raises:
        UserError: If it is in neither place.
    """
    root = find_root()
    data = Path(os.environ.get("MMCITY_DATA", root.parent / "shared" / "data"))
    for folder in (data, root / "demo" / "data"):
        if (folder / SCENES[name]).is_dir():
            return (folder / SCENES[name]).resolve()
    raise UserError(
        f"{data / SCENES[name]}: expected the capture {name}, found none: set MMCITY_DATA to the "
        "folder that holds it, or leave the scene out"
    )


def train_scenes(
    work_dir: str | os.PathLike,
    scenes: Sequence[str] = tuple(SCENES),
    seeds: Sequence[int] = (0, 1, 2),
    threads: int = 1,
    options: Mapping[str, Any] = OPTIONS,
) -> Iterator[dict[str, Any]]:
    """Train each scene with each seed, one after the other, and score the held-out views.

    Args:
        work_dir: Folder for checkpoints and scenes.
        scenes: Names out of :data:`SCENES`. Defaults to all.
        seeds: Defaults to 0, 1 and 2.
        threads: CPU threads. Defaults to 1.
        options: Dotted keys of the config and their values. Defaults to :data:`OPTIONS`.

    Yields:
        The report so far, after each run: ``protocol``, and ``runs`` with ``scene``, ``seed`` and
        the figures of :data:`FIGURES`.

    Raises:
        UserError: If a capture is missing, or a command fails.
    """
    folders = {name: find_scene(name) for name in scenes}
    protocol = {
        "config": CONFIG,
        "options": dict(options),
        "seeds": list(seeds),
        "threads": threads,
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "date": date.today().isoformat(),
    }
    runs: list[dict[str, Any]] = []
    for seed in seeds:
        for name, data in folders.items():
            folder = Path(work_dir) / f"{name}_{seed}"
            changed = {**options, "data_root": data, "randomness.seed": seed}
            runs.append({"scene": name, "seed": seed, **_run(folder, data, changed, threads)})
            yield {"protocol": protocol, "runs": runs}


def _run(folder: Path, data: Path, options: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """Figures of one training."""
    settings = [f"{key}={value}".replace(" ", "") for key, value in options.items()]
    words = ["--cfg-options", *settings]
    seconds = _call(threads, "train", CONFIG, "--work-dir", folder, *words)
    log = sorted(folder.glob("*/vis_data/scalars.json"))[-1]
    scores = json.loads(list(read_lines(log))[-1])
    scene = folder / "scene.ply"
    capture = ColmapDataset(data, split="test", resize=dict(long_side=LONG_SIDE))
    corners = [capture.all_cameras.centers.double(), robust_bounds(capture.points3D.xyz)]
    bounds = torch.stack([torch.cat(corners).amin(0), torch.cat(corners).amax(0)])
    gaussians = read_gaussians(scene)
    middle = bounds.mean(0).to(gaussians.means)
    return {
        **{name: scores[f"val/{name}"] for name in ("psnr", "ssim", "psnr_cc")},
        "gaussians": len(gaussians),
        "strays": int(is_stray(gaussians.means, gaussians.opacities, bounds, REACH).sum()),
        "reach": float((gaussians.means - middle).norm(dim=1).max()),
        "spz_psnr": spz_psnr(scene, capture.cameras),
        "cpu_seconds": seconds,
    }


def _call(threads: int, *words: object) -> float:
    """Run ``mmcity VERB ...``; the CPU seconds that it took."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "mmcity", *map(str, words)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise UserError(f"{' '.join(command)}: ended with {done.returncode}: {done.stderr[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def spz_psnr(scene: str | os.PathLike, cameras: Cameras) -> float:
    """Mean PSNR of renders of a ``.ply`` file's ``.spz`` form against its own.

    Args:
        scene: The ``.ply`` file.
        cameras: To render.
    """
    with TemporaryDirectory() as folder:
        packed = Path(folder) / "scene.spz"
        export_scene(scene, packed)
        first, second = (
            SceneRenderer(checkpoint=file, device="cpu", show_progress=False)(cameras).rgb
            for file in (scene, packed)
        )
    return float(psnr(torch.stack(second), torch.stack(first)).mean())


def compare_reports(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Figures that rose or fell between two reports beyond the spread of the seeds.

    A mean has changed where it moved by more than twice the standard error of the difference
    of the two means, from the standard deviations over the seeds.

    Args:
        old: See :func:`train_scenes`.
        new: The same, by the same protocol.

    Returns:
        A row per scene and figure: ``scene``, ``figure``, ``old``, ``new`` (means), ``spread``
        (twice the standard error) and ``verdict``: ``better``, ``worse``, ``changed`` or ``same``.

    Raises:
        UserError: If the protocols differ, or a scene has fewer than two runs.
    """
    parts = ("config", "options", "threads")
    differ = [part for part in parts if old["protocol"][part] != new["protocol"][part]]
    if differ:
        raise UserError(
            f"old, new: expected one protocol, got two that differ in {', '.join(differ)}: train "
            "the older state again"
        )
    rows = []
    for scene in dict.fromkeys(run["scene"] for run in old["runs"]):
        for figure, (_, _, sign) in FIGURES.items():
            values = [
                [run[figure] for run in report["runs"] if run["scene"] == scene]
                for report in (old, new)
            ]
            if min(map(len, values)) < 2:
                raise UserError(
                    f"{scene}: expected two runs or more in each report, got "
                    f"{[len(v) for v in values]}: train it with more seeds"
                )
            before, after = map(fmean, values)
            spread = 2 * sum(stdev(v) ** 2 / len(v) for v in values) ** 0.5
            verdict = "same"
            if abs(after - before) > spread:
                verdict = {0: "changed", 1: "better", -1: "worse"}[
                    sign if after > before else -sign
                ]
            rows.append(
                {"scene": scene, "figure": figure, "old": before, "new": after}
                | {"spread": spread, "verdict": verdict}
            )
    return rows


def scenes_table(report: Mapping[str, Any]) -> str:
    """Markdown table of a report: mean and standard deviation over the seeds per scene."""
    rows = []
    for scene in dict.fromkeys(run["scene"] for run in report["runs"]):
        runs = [run for run in report["runs"] if run["scene"] == scene]
        cells = [scene, len(runs)]
        for figure, (_, digits, _) in FIGURES.items():
            values = [run[figure] for run in runs]
            spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{fmean(values):.{digits}f}{spread}")
        rows.append(cells)
    return markdown_table(["scene", "runs", *(title for title, _, _ in FIGURES.values())], rows)


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown table of :func:`compare_reports`."""
    cells = []
    for row in rows:
        title, digits, _ = FIGURES[row["figure"]]
        numbers = [f"{row[key]:.{digits}f}" for key in ("old", "new")]
        change = f"{row['new'] - row['old']:+.{digits}f}"
        cells.append([row["scene"], title, *numbers, change, f"{row['spread']:.{digits}f}"])
        cells[-1].append(row["verdict"])
    return markdown_table(["scene", "figure", "old", "new", "change", "spread", ""], cells)
