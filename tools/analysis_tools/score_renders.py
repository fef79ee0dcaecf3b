"""Table of PSNR, SSIM and LPIPS over saved renders.

    python tools/analysis_tools/score_renders.py renders/test other/test [--downscale 1.2]

Each folder holds ``renders`` and ``gt`` with pictures of equal names. Numbers are given plain (N)
and after one affine colour transform per picture fitted to the photograph (C); a table never
mixes them. Beside each folder's pictures, ``results.json`` and ``per_view.json`` are written.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from mmcity.evaluation.metrics.image_quality import ImageQualityMetric
from mmcity.utils.cli import UserError, run_command
from mmcity.utils.fileio import atomic_path


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument(
        "--downscale", type=float, default=1.0, help="both pictures; 1.2 is usual for MatrixCity"
    )
    parser.add_argument("--lpips-weights", help="file of LPIPS weights; without it: no LPIPS")
    parser.add_argument("--lpips-network", default="vgg", choices=("alex", "vgg"))
    return parser.parse_args()


def read(path: Path, downscale: float) -> torch.Tensor:
    """``(3, H, W)`` in [0, 1]."""
    image = Image.open(path).convert("RGB")
    if downscale != 1:
        size = tuple(round(edge / downscale) for edge in image.size)
        image = image.resize(size, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def score_folder(folder: Path, metric: ImageQualityMetric, downscale: float) -> dict[str, dict]:
    """Numbers of each picture by its name.

    Raises:
        UserError: If a render has no photograph, or the folder has no render.
    """
    names = sorted(path.name for path in (folder / "renders").glob("*.png"))
    if not names:
        raise UserError(f"{folder}: expected pictures in {folder / 'renders'}, found none")
    rows = {}
    for name in names:
        truth = folder / "gt" / name
        if not truth.is_file():
            raise UserError(f"{folder}: the render {name} has no photograph {truth}")
        rows[name] = metric.score(
            read(folder / "renders" / name, downscale), read(truth, downscale)
        )
    return rows


def write(path: Path, value: dict) -> None:
    """Write JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        Path(temporary).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Score, print, write."""
    args = parse_args()
    metric = ImageQualityMetric(lpips_weights=args.lpips_weights, lpips_network=args.lpips_network)
    scale = f", D{args.downscale:g}" if args.downscale != 1 else ""
    titles = {"psnr": "PSNR (N)", "ssim": "SSIM (N)", "psnr_cc": "PSNR (C)", "ssim_cc": "SSIM (C)"}
    if args.lpips_weights:
        titles["lpips"] = f"LPIPS-{args.lpips_network} (N)"
    table = Table("folder", "views", "size", *(title + scale for title in titles.values()))
    for folder in args.folders:
        rows = score_folder(folder, metric, args.downscale)
        means = {key: sum(row[key] for row in rows.values()) / len(rows) for key in titles}
        sizes = sorted({f"{row['width']}x{row['height']}" for row in rows.values()})
        protocol = dict(
            colour={"psnr": "plain", "psnr_cc": "affine per picture"},
            downscale=args.downscale,
            lpips=args.lpips_network if args.lpips_weights else None,
            bits=8,
            size=sizes,
            n_images=len(rows),
        )
        write(folder / "results.json", {**means, "protocol": protocol})
        write(folder / "per_view.json", rows)
        numbers = (f"{means[key]:.2f}" if "psnr" in key else f"{means[key]:.3f}" for key in titles)
        table.add_row(str(folder), str(len(rows)), ", ".join(sizes), *numbers)
    Console(width=160).print(table)


if __name__ == "__main__":
    run_command(main)
