"""Table of PSNR, SSIM and LPIPS over saved renders.

Each folder holds ``renders`` and ``gt`` with pictures of equal names. Numbers are given plain (N)
and after one affine colour transform per picture fitted to the photograph (C); a table never
mixes them. Beside each folder's pictures, ``results.json`` and ``per_view.json`` are written.
"""

import argparse
from pathlib import Path

from mmcity.cli.options import add_function

EXAMPLE = "python tools/analysis_tools/score_renders.py renders/test other/test --downscale 1.2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of scoring."""
    parser.add_argument("folders", nargs="+", type=Path)
    scores, networks = "mmcity.apis.scenes.scores:score_renders", ("alex", "vgg")
    add_function(parser, scores, folder=None, lpips_network=networks, failures=None)


def run(args: argparse.Namespace) -> None:
    """Score."""
    from rich.console import Console
    from rich.table import Table

    from mmcity.apis.scenes import score_renders
    from mmcity.utils.failures import ItemFailures

    titles = {"psnr": "PSNR (N)", "ssim": "SSIM (N)", "psnr_cc": "PSNR (C)", "ssim_cc": "SSIM (C)"}
    if args.lpips_weights:
        titles["lpips"] = f"LPIPS-{args.lpips_network} (N)"
    scale = f", D{args.downscale:g}" if args.downscale != 1 else ""
    table = Table("folder", "views", "size", *(title + scale for title in titles.values()))
    options = vars(args)
    broken = ItemFailures("folders")
    for folder in options.pop("folders"):
        pictures = ItemFailures("pictures")
        with broken.item(str(folder)):
            scores = score_renders(folder, **options, failures=pictures)
            about = scores["protocol"]
            numbers = (f"{scores[key]:.{2 if 'psnr' in key else 3}f}" for key in titles)
            table.add_row(str(folder), str(about["n_images"]), ", ".join(about["size"]), *numbers)
            pictures.check()
    Console(width=160).print(table)
    broken.check()
