"""Pictures of dumped results: contact sheets of renders, and occupancy."""

import os
from pathlib import Path

import numpy as np

from mmcity.utils.cli import UserError
from mmcity.utils.fileio import visible

from .color_maps import colorize_depth, colorize_error, colorize_normals
from .contact_sheet import contact_sheet
from .occupancy_results import draw_occupancy_result, is_occupancy_result
from .video import write_image


def draw_results(
    source: str | os.PathLike,
    out: str | os.PathLike = "outputs/visualize",
    *,
    max_rows: int = 12,
    pages: bool = True,
) -> list[Path]:
    """Draw results that testing has dumped.

    Args:
        source: The folder, or one ``.npz`` or ``.pkl`` file of occupancy.
        out: Folder. Defaults to ``outputs/visualize``.
        max_rows: Rows of one contact sheet. Defaults to 12.
        pages: Write interactive pages of occupancy results, too. Defaults to True.

    Returns:
        The files written.

    Raises:
        UserError: If there are no results, or one holds no picture.
    """
    source, out = Path(source), Path(out)
    files = [source]
    if source.is_dir():
        files = visible(sorted(source.glob("*.npz"))) or visible(sorted(source.glob("*.pkl")))
    if not files:
        raise UserError(
            f"{source}: expected .npz or .pkl results, found none: write them with --dump"
        )
    if not source.is_dir() or is_occupancy_result(files[0]):
        return [made for file in files for made in draw_occupancy_result(file, out, pages)]
    sheets = []
    for first in range(0, len(files), max_rows):
        drawn = [_draw_render(file) for file in files[first : first + max_rows]]
        panels, captions = zip(*drawn)
        path = out / f"contact_sheet_{len(sheets):02d}.png"
        rows = [list(panel.values()) for panel in panels]
        write_image(path, contact_sheet(rows, list(panels[-1]), captions))
        sheets.append(path)
    return sheets


def _draw_render(file: Path) -> tuple[dict[str, np.ndarray], str]:
    """Pictures of a rendered view by their titles, and its caption."""
    with np.load(file, allow_pickle=False) as data:
        if "pred_image" not in data:
            raise UserError(
                f"{file}: expected 'pred_image', got {sorted(data)}: no picture to draw"
            )
        solid = data["pred_alpha"] > 0.5
        panels = {"render": data["pred_image"]}
        if "gt_image" in data:
            error = colorize_error(data["pred_image"], data["gt_image"])
            panels = {"photograph": data["gt_image"], **panels, "error": error}
        panels["depth"] = colorize_depth(data["pred_depth"], solid)
        if "pred_normal" in data:
            panels["normals"] = colorize_normals(data["pred_normal"], solid)
        numbers = [
            f"{name} {float(data[f'metrics.{name}']):.{digits}f}"
            for name, digits in (("psnr", 2), ("ssim", 3))
            if f"metrics.{name}" in data
        ]
    return panels, "  ".join([file.stem, *numbers])
