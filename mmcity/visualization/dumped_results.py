"""Pictures of dumped results: contact sheets of renders, and occupancy."""

import os
from pathlib import Path

import numpy as np

from mmcity.utils.cli import UserError
from mmcity.utils.failures import ItemFailures
from mmcity.utils.fileio import read_arrays, visible

from .color_maps import colorize_depth, colorize_error, colorize_normals
from .contact_sheet import contact_sheet
from .occupancy_results import draw_occupancy_result, is_occupancy_result
from .video import pictures_beside, write_image


def draw_results(
    source: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    max_rows: int = 12,
    pages: bool = True,
) -> list[Path]:
    """Draw results that testing has dumped.

    Args:
        source: The folder, or one ``.npz`` or ``.pkl`` file of occupancy.
        out: Folder. Defaults to ``pictures`` in the folder, or ``NAME_pictures`` beside the file.
        max_rows: Rows of one contact sheet. Defaults to 12.
        pages: Write interactive pages of occupancy results, too. Defaults to True.

    Returns:
        The files written.

    Raises:
        UserError: If there are no results; or, once the others are drawn, if one holds no
            picture.
    """
    source = Path(source)
    out = pictures_beside(source) if out is None else Path(out)
    files = [source]
    if source.is_dir():
        files = visible(sorted(source.glob("*.npz"))) or visible(sorted(source.glob("*.pkl")))
    if not files:
        raise UserError(
            f"{source}: expected .npz or .pkl results, found none: write them with --dump"
        )
    failures, made, rows = ItemFailures("results"), [], []
    for file in files:
        with failures.item(str(file)):
            if not source.is_dir() or is_occupancy_result(file):
                made += draw_occupancy_result(file, out, pages)
            else:
                rows.append(_draw_render(file))
        if rows and (len(rows) == max_rows or file == files[-1]):
            made.append(out / f"contact_sheet_{len(made):02d}.png")
            panels, captions = zip(*rows)
            cells = [list(panel.values()) for panel in panels]
            write_image(made[-1], contact_sheet(cells, list(panels[-1]), captions))
            rows = []
    failures.check()
    return made


def _draw_render(file: Path) -> tuple[dict[str, np.ndarray], str]:
    """Pictures of a rendered view by their titles, and its caption."""
    data = read_arrays(file)
    if "pred_image" not in data:
        raise UserError(f"{file}: expected 'pred_image', got {sorted(data)}: no picture to draw")
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
