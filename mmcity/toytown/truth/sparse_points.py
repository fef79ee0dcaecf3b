"""Sparse points with tracks, as a structure-from-motion run over the images would leave them."""

from collections.abc import Sequence

import numpy as np

from mmcity.datasets.io import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints
from mmcity.structures.geometry import rotmat_to_quat
from mmcity.toytown.sensors.cameras import View
from mmcity.toytown.sensors.renderer import Renderer

#: Share of the views of a point in which a feature detector would find it again.
_RECALL = 0.8
#: Features per image that no point belongs to, relative to those that have one.
_CLUTTER = 0.15


def truncated_noise(rng: np.random.Generator, count: int, sigma: float) -> np.ndarray:
    """Gaussian pixel noise (count, 2), drawn again where it is longer than 3 sigma."""
    noise = rng.normal(0, 1, (count, 2))
    for _ in range(100):
        far = np.hypot(*noise.T) > 3
        if not far.any():
            break
        noise[far] = rng.normal(0, 1, (int(far.sum()), 2))
    return sigma * noise


def make_colmap_model(
    renderer: Renderer,
    views: Sequence[View],
    names: Sequence[str],
    images: Sequence[np.ndarray],
    count: int,
    rng: np.random.Generator,
    noise_px: float = 0.3,
    is_mapped: Sequence[bool] | None = None,
    max_distance: float = 250.0,
) -> ColmapModel:
    """Sparse model of a set of views.

    Points are where random pixels of the images meet a surface; their tracks are the
    views that truly see them, of which a feature detector misses some.

    Args:
        renderer: Holds the static city; moving bodies must not be set.
        views: The cameras.
        names: File names in the model.
        images: (H, W, 3) uint8 pictures, for the colours.
        count: Number of points aimed at.
        rng: Source of randomness.
        noise_px: Standard deviation of the observations, cut at 3 sigma. Defaults to 0.3.
        is_mapped: Views whose features belong to the map; None takes all.
        max_distance: Points farther from their first camera are left out. Defaults to 250.

    Returns:
        ColmapModel: One PINHOLE camera per distinct intrinsics, images in the order given.
    """
    use = [k for k in range(len(views)) if is_mapped is None or is_mapped[k]]
    points, normals, colors = _candidates(
        renderer, [views[k] for k in use], [images[k] for k in use], count, rng, max_distance
    )
    observed = np.zeros((len(views), len(points)), dtype=bool)
    pixels = np.zeros((len(views), len(points), 2))
    for k in use:
        view = views[k]
        uv, z = view.project(points)
        to_view = view.center - points
        facing = (normals * to_view).sum(1) / np.linalg.norm(to_view, axis=1)
        size = np.array([view.width, view.height])
        inside = (z > 0.3) & (facing > 0.1) & ((uv > 1) & (uv < size - 1)).all(1)
        rows = np.flatnonzero(inside)
        rows = rows[renderer.visible(points[rows], view.center)]
        observed[k, rows] = rng.random(len(rows)) < _RECALL
        pixels[k] = uv
    keep = np.flatnonzero(observed.sum(0) >= 3)
    keep = np.sort(rng.permutation(keep)[:count])
    observed, pixels = observed[:, keep], pixels[:, keep]
    points, colors = points[keep], colors[keep]

    cameras, colmap_images, sizes = {}, {}, {}
    tracks, errors = [], np.zeros(len(points))
    for k, view in enumerate(views):
        key = (*view.K.ravel(), view.width, view.height)
        camera_id = sizes.setdefault(key, len(sizes) + 1)
        cameras[camera_id] = ColmapCamera.pinhole(camera_id, view.width, view.height, view.K)
        seen = np.flatnonzero(observed[k])
        noise = truncated_noise(rng, len(seen), noise_px)
        errors[seen] += np.hypot(*noise.T)
        clutter = rng.uniform(0, 1, (int(_CLUTTER * len(seen)), 2)) * [view.width, view.height]
        ids = np.concatenate([seen + 1, np.full(len(clutter), -1)]).astype(np.int64)
        tracks.append(np.column_stack([seen, np.full(len(seen), k + 1), np.arange(len(seen))]))
        pose = view.world_to_cam
        colmap_images[k + 1] = ColmapImage(
            k + 1,
            rotmat_to_quat(pose[:3, :3]),
            pose[:3, 3],
            camera_id,
            names[k],
            np.concatenate([pixels[k, seen] + noise, clutter]),
            ids,
        )
    table = np.concatenate(tracks)
    table = table[np.argsort(table[:, 0], kind="stable")]
    lengths = observed.sum(0)
    model_points = ColmapPoints.from_arrays(
        points, colors, errors / np.maximum(lengths, 1), track_lengths=lengths, tracks=table[:, 1:]
    )
    return ColmapModel(cameras, colmap_images, model_points)


def _candidates(
    renderer: Renderer,
    views: Sequence[View],
    images: Sequence[np.ndarray],
    count: int,
    rng: np.random.Generator,
    max_distance: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Surface points under random pixels: positions, normals, colours, each (M, 3)."""
    per_view = int(np.ceil(1.7 * count / max(len(views), 1)))
    found = []
    for view, image in zip(views, images):
        uv = rng.uniform(2, np.array([view.width, view.height]) - 2, (per_view, 2))
        d = view.camera_rays(uv) @ view.cam_to_world[:3, :3].T
        d /= np.linalg.norm(d, axis=1, keepdims=True)
        hits = renderer.trace(np.broadcast_to(view.center, d.shape), d)
        rows = np.flatnonzero(hits.found & (hits.distance < max_distance))
        column, line = np.floor(uv[rows]).astype(int).T
        found.append((hits.point[rows], hits.normal[rows], image[line, column]))
    return tuple(np.concatenate(part) for part in zip(*found))
