"""Scores of what was rendered and meshed, from files."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmcity.evaluation.functional.means import item_means
from mmcity.evaluation.functional.point_clouds import f1_score, f1_tnt
from mmcity.evaluation.metrics.image_quality import ImageQualityMetric
from mmcity.structures import read_frame_of
from mmcity.structures.io.mesh_files import read_vertices
from mmcity.utils.cli import UserError
from mmcity.utils.failures import ItemFailures
from mmcity.utils.fileio import read_json, read_numbers, write_json
from mmcity.utils.images import list_images
from mmcity.utils.picture_files import read_image


def score_mesh(
    prediction: str | os.PathLike,
    truth: str | os.PathLike,
    *,
    threshold: float,
    protocol: str = "vertex",
    transform: str | os.PathLike | None = None,
    crop: str | os.PathLike | None = None,
) -> dict[str, float]:
    """Precision, recall and F1 of a mesh or cloud against a true one.

    Args:
        prediction: File of a mesh or cloud.
        truth: File of a mesh or cloud.
        threshold: World units.
        protocol: ``vertex`` compares vertices as they are; ``tnt`` follows Tanks and Temples:
            the prediction is brought to the truth's frame, both are cropped, thinned to one
            point per cell of half the threshold, and aligned by ICP. Defaults to ``vertex``.
        transform: Of ``tnt``: text file with the 4x4 matrix prediction to truth. Defaults to None.
        crop: Of ``tnt``: json of a polygon, SelectionPolygonVolume of Open3D. Defaults to None.

    Returns:
        The scores by name.
    """
    points, true_points = world_vertices(prediction), world_vertices(truth)
    if protocol == "vertex":
        return f1_score(points, true_points, threshold)
    matrix = None if transform is None else read_numbers(transform)
    polygon = None if crop is None else read_json(crop)
    return f1_tnt(points, true_points, threshold, matrix, polygon)


def world_vertices(path: str | os.PathLike, process: bool = True) -> np.ndarray:
    """World positions ``(N, 3)`` float64 of the vertices of a mesh or cloud.

    Args:
        path: A file without a frame holds world coordinates.
        process: Merge vertices of one place. Defaults to True.
    """
    vertices = read_vertices(path, process=process)
    frame = read_frame_of(path)
    return vertices if frame is None else frame.scene_to_world(vertices)


def score_renders(
    folder: str | os.PathLike,
    *,
    downscale: float = 1.0,
    lpips_weights: str | os.PathLike | None = None,
    lpips_network: str = "vgg",
    failures: ItemFailures | None = None,
) -> dict[str, Any]:
    """PSNR, SSIM and LPIPS of saved renders.

    The means are also written to ``results.json``, the numbers of each view to
    ``per_view.json``, both in the folder.

    Args:
        folder: Holds ``renders`` and ``gt`` with pictures of equal relative names.
        downscale: Of both pictures before they are compared. Defaults to 1.
        lpips_weights: File of LPIPS weights. Defaults to None: no LPIPS.
        lpips_network: ``alex`` or ``vgg``. Defaults to ``vgg``.
        failures: Takes the pictures that cannot be scored. Defaults to None: they are an error,
            once the others are scored.

    Returns:
        Means ``psnr``, ``ssim``, of renders as they are, ``psnr_cc``, ``ssim_cc`` after one
        affine colour transform per picture fitted to the photograph, and ``lpips``; how they
        were measured under ``protocol``.

    Raises:
        UserError: If renders lack their photographs or cannot be read, or the folder has none.
    """
    folder = Path(folder)
    metric = ImageQualityMetric(lpips_weights=lpips_weights, lpips_network=lpips_network)
    renders = folder / "renders"
    pictures = list_images(renders, recursive=True) if renders.is_dir() else []
    names = [path.relative_to(renders).as_posix() for path in pictures]
    if not names:
        raise UserError(f"{folder}: expected pictures in {folder / 'renders'}, found none")
    rows = {}
    bad = ItemFailures("pictures") if failures is None else failures
    for name in names:
        truth = folder / "gt" / name
        with bad.item(f"{folder}: {name}"):
            if not truth.is_file():
                raise UserError(f"{folder}: expected a photograph {truth} of {name}, found none")
            render = _read(folder / "renders" / name, downscale)
            rows[name] = metric.score(render, _read(truth, downscale))
    if not rows:
        bad.check()
    keys = ["psnr", "ssim", "psnr_cc", "ssim_cc", *(["lpips"] if lpips_weights else [])]
    results: dict[str, Any] = item_means(list(rows.values()), keys)
    results["protocol"] = dict(
        colour={"psnr": "plain", "psnr_cc": "affine per picture"},
        downscale=downscale,
        lpips=lpips_network if lpips_weights else None,
        bits=8,
        size=sorted({f"{row['width']}x{row['height']}" for row in rows.values()}),
        n_images=len(rows),
    )
    for file, value in (("results.json", results), ("per_view.json", rows)):
        write_json(folder / file, value)
    if failures is None:
        bad.check()
    return results


def _read(path: Path, downscale: float) -> Tensor:
    """``(3, H, W)`` in [0, 1]."""
    image = Image.fromarray(read_image(path))
    if downscale != 1:
        size = tuple(round(edge / downscale) for edge in image.size)
        image = image.resize(size, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
