"""Scale and offset that take a monocular inverse depth to the units of a COLMAP model."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

from mmcity.utils.checks import check_choice
from mmcity.utils.failures import ItemFailures
from mmcity.utils.fileio import write_json
from mmcity.utils.picture_files import read_image
from mmcity.utils.picture_names import check_unique, find_companion, output_names

from .io.colmap_model import find_colmap_model, read_colmap_model

FIT_METHODS = ("median", "lsq", "ransac")
MIN_POINTS = 10
MIN_SPREAD = 1e-3
#: Spread of the values of a map, relative to them, that is but rounding.
FLAT = 1e-9
#: Maps are divided by this whatever their bit depth.
UNIT = 65536.0


def _median(sampled: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    spread = np.abs(sampled - np.median(sampled)).mean()
    if spread == 0:
        return 0.0, 0.0
    scale = np.abs(truth - np.median(truth)).mean() / spread
    return float(scale), float(np.median(truth) - np.median(sampled) * scale)


def _least_squares(sampled: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    if np.ptp(sampled) == 0:
        return 0.0, 0.0
    scale, offset = np.polyfit(sampled, truth, 1)
    return float(scale), float(offset)


def _ransac(sampled: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    tolerance = 0.1 * np.abs(truth - np.median(truth)).mean()
    best = np.zeros(len(truth), dtype=bool)
    for _ in range(200):
        a, b = rng.choice(len(truth), 2, replace=False)
        if sampled[a] == sampled[b]:
            continue
        scale = (truth[a] - truth[b]) / (sampled[a] - sampled[b])
        error = np.abs(scale * (sampled - sampled[a]) + truth[a] - truth)
        inliers = error < tolerance
        if scale > 0 and inliers.sum() > best.sum():
            best = inliers
    return _least_squares(sampled[best], truth[best]) if best.sum() > 2 else (0.0, 0.0)


_FITS: dict[str, Callable] = {"median": _median, "lsq": _least_squares, "ransac": _ransac}


def fit_depth_scale(
    inverse_depth: np.ndarray,
    pixels: np.ndarray,
    points: np.ndarray,
    viewmat: np.ndarray,
    colmap_size: tuple[int, int],
    method: str = "median",
) -> tuple[float, float]:
    """Fit ``1 / z = scale * value / 65536 + offset`` at the sparse points of one image.

    Args:
        inverse_depth: ``(H, W)`` or ``(H, W, C)``, any integer or float type.
        pixels: ``(P, 2)`` observations in the picture of the COLMAP model.
        points: ``(P, 3)`` their world points.
        viewmat: ``(4, 4)`` world to camera.
        colmap_size: Width and height of that picture.
        method: ``median`` (median and mean deviation), ``lsq`` or ``ransac``. Defaults to
            ``median``.

    Returns:
        Scale and offset; both 0 where there are too few points, or depths or map have no spread.
    """
    check_choice("method", method, FIT_METHODS)
    values = inverse_depth[..., 0] if inverse_depth.ndim == 3 else inverse_depth
    values = values.astype(np.float64) / UNIT
    depth = points @ viewmat[2, :3] + viewmat[2, 3]
    with np.errstate(divide="ignore"):
        truth = 1 / depth
    ratio = values.shape[0] / colmap_size[1]
    x, y = pixels[:, 0] * ratio, pixels[:, 1] * ratio
    width, height = colmap_size[0] * ratio, colmap_size[1] * ratio
    valid = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (truth > 0)
    if valid.sum() <= MIN_POINTS or not np.ptp(truth) > MIN_SPREAD:
        return 0.0, 0.0
    sampled = map_coordinates(values, np.stack([y[valid], x[valid]]), order=1, mode="nearest")
    if not np.ptp(sampled) > FLAT * np.abs(sampled).max():
        return 0.0, 0.0
    scale, offset = _FITS[method](sampled, truth[valid])
    return (scale, offset) if np.isfinite([scale, offset]).all() else (0.0, 0.0)


def fit_depth_params(
    model_dir: Path,
    depth_dir: Path,
    method: str = "median",
    report: Callable | None = None,
    failures: ItemFailures | None = None,
) -> dict[str, dict[str, float]]:
    """Scales and offsets of all images of a COLMAP model that have a map.

    The maps are found by :func:`~mmcity.utils.picture_names.find_companion`. Keys are the
    images' relative names without suffix, or with it where two differ by nothing else.

    Args:
        model_dir: Folder with cameras, images and points3D.
        depth_dir: Folder of inverse depth maps.
        method: Of the fit, see :func:`fit_depth_scale`. Defaults to ``median``.
        report: Called with (done, total) after each image. Defaults to None.
        failures: Takes the images whose maps cannot be read. Defaults to None: they are an
            error.

    Raises:
        FileNotFoundError: If no image has a map.
        ValueError: If two images would share a map.
    """
    model = read_colmap_model(model_dir)
    rows = {int(key): row for row, key in enumerate(model.points3D.ids)}
    keys = output_names([image.name for image in model.images.values()], "")
    out = {}
    maps = {image.name: find_companion(depth_dir, image.name) for image in model.images.values()}
    check_unique(maps, "the inverse depth")
    bad = ItemFailures("depth maps") if failures is None else failures
    for done, image in enumerate(sorted(model.images.values(), key=lambda one: one.name), 1):
        path = maps[image.name]
        if path is not None:
            found = [(i, rows[int(key)]) for i, key in enumerate(image.point3D_ids) if key in rows]
            keep = np.array(found, dtype=np.int64).reshape(-1, 2)
            camera = model.cameras[image.camera_id]
            with bad.item(image.name):
                scale, offset = fit_depth_scale(
                    read_image(path, None),
                    np.asarray(image.xys)[keep[:, 0]],
                    np.asarray(model.points3D.xyz)[keep[:, 1]],
                    image.viewmat,
                    (camera.width, camera.height),
                    method,
                )
                out[keys[image.name]] = dict(scale=scale, offset=offset)
        if report is not None:
            report(done, len(model.images))
    if not out and not bad.reasons:
        raise FileNotFoundError(f"{depth_dir}: expected maps named like the images, found none")
    if failures is None:
        bad.check()
    return out


def fit_scene_depths(
    scene: str | os.PathLike,
    *,
    sparse_dir: str | None = None,
    depth_dir: str = "train/depths",
    method: str = "median",
    out: str | os.PathLike | None = None,
) -> tuple[Path, dict[str, dict[str, float]]]:
    """Fit the inverse depths of a scene to its sparse points and write ``depth_params.json``.

    Images whose fit fails get a scale of 0 and are left out by the datasets.

    Args:
        scene: Scene folder.
        sparse_dir: Folder of the model below it. Defaults to where models usually lie.
        depth_dir: Folder of inverse depth maps (``*.png``) below it. Defaults to
            ``train/depths``.
        method: Of the fit: median and mean deviation, least squares, or RANSAC. Defaults to
            ``median``.
        out: Defaults to ``depth_params.json`` beside the model.

    Returns:
        The file, and what :func:`fit_depth_params` gives.

    Raises:
        FileNotFoundError: If there is no model, or no image has a map.
        UserError: If maps cannot be read; the fits of the others are written then.
    """
    scene = Path(scene)
    model = scene / sparse_dir if sparse_dir else find_colmap_model(scene)
    failures = ItemFailures("depth maps")
    params = fit_depth_params(model, scene / depth_dir, method, failures=failures)
    out = Path(out or model / "depth_params.json")
    if params:
        write_json(out, params, sort_keys=True)
    failures.check()
    return out, params
