"""Accuracy and completeness of reconstructed point clouds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from mmcity.structures import Sim3
from mmcity.structures.geometry import se3_inverse, transform_points


def _nearest(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return cKDTree(target).query(source)


def cloud_distances(
    source: np.ndarray, source_normals: np.ndarray, target: np.ndarray, target_normals: np.ndarray
) -> dict[str, float]:
    """Distances from each source point to its nearest target point.

    With the prediction as source this is accuracy, with the ground truth completion.

    Args:
        source: ``(N, 3)``.
        source_normals: ``(N, 3)``, unit length.
        target: ``(M, 3)``.
        target_normals: ``(M, 3)``, unit length.

    Returns:
        ``mean``, ``median`` of the distance, ``normal_mean``, ``normal_median`` of the
        absolute cosine between the normals of matched points.
    """
    distance, index = _nearest(source, target)
    cosine = np.abs((source_normals * target_normals[index]).sum(-1))
    return {
        "mean": float(distance.mean()),
        "median": float(np.median(distance)),
        "normal_mean": float(cosine.mean()),
        "normal_median": float(np.median(cosine)),
    }


def completion_ratio(gt: np.ndarray, pred: np.ndarray, threshold: float = 0.05) -> float:
    """Share of ground-truth points with a predicted point strictly nearer than ``threshold``."""
    return float((_nearest(gt, pred)[0] < threshold).mean())


def f1_score(pred: np.ndarray, gt: np.ndarray, threshold: float) -> dict[str, float]:
    """Precision, recall and F1 of points that count as right strictly within ``threshold``.

    Args:
        pred: ``(N, 3)`` reconstructed points, aligned and cropped.
        gt: ``(M, 3)`` true points.
        threshold: In the unit of the points.
    """
    if not len(pred) or not len(gt):
        return {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    precision = completion_ratio(pred, gt, threshold)
    recall = completion_ratio(gt, pred, threshold)
    total = precision + recall
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / total if total else 0.0,
    }


def estimate_normals(points: np.ndarray, neighbours: int = 30) -> np.ndarray:
    """Unit normals ``(N, 3)`` from the nearest neighbours (themselves included); sign is free."""
    count = min(neighbours, len(points))
    if count < 3:
        raise ValueError(f"points: expected at least 3 for normals, got {len(points)}")
    index = cKDTree(points).query(points, k=count)[1]  # (N, k)
    normals = np.empty_like(points, dtype=np.float64)
    for start in range(0, len(points), 100_000):  # bounds the memory of the gathered rows
        near = points[index[start : start + 100_000]]
        near = near - near.mean(axis=1, keepdims=True)
        _, vectors = np.linalg.eigh(near.swapaxes(1, 2) @ near)
        normals[start : start + 100_000] = vectors[..., 0]
    return normals


def icp(
    source: np.ndarray,
    target: np.ndarray,
    threshold: float = 0.1,
    max_iterations: int = 30,
    tolerance: float = 1e-6,
) -> np.ndarray:
    """Rigid point-to-point registration that starts at the identity.

    Args:
        source: ``(N, 3)``.
        target: ``(M, 3)``.
        threshold: Pairs farther apart are left out. Defaults to 0.1.
        max_iterations: Defaults to 30.
        tolerance: Stop when share and root mean square distance of the pairs change less.
            Defaults to 1e-6.

    Returns:
        ``(4, 4)`` source to target; the identity if fewer than 3 pairs are close.
    """
    tree, matrix = cKDTree(target), np.eye(4)
    moved, previous = source, None
    for _ in range(max_iterations):
        distance, index = tree.query(moved)
        near = distance < threshold
        if near.sum() < 3:
            break
        state = (near.mean(), np.sqrt((distance[near] ** 2).mean()))
        if previous is not None and max(abs(a - b) for a, b in zip(state, previous)) < tolerance:
            break
        previous = state
        step = Sim3.from_points(
            torch.from_numpy(moved[near]), torch.from_numpy(target[index[near]]), with_scale=False
        ).matrix.numpy()
        matrix = step @ matrix
        moved = source @ matrix[:3, :3].T + matrix[:3, 3]
    return matrix


def thin_points(points: np.ndarray, cell: float) -> np.ndarray:
    """Mean of the points ``(N, 3)`` in each cubic cell of this edge."""
    cells = np.floor(points / cell).astype(np.int64)
    _, inverse, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), 3))
    np.add.at(sums, inverse.reshape(-1), points)
    return sums / counts[:, None]


def crop_to_polygon(points: np.ndarray, crop: dict) -> np.ndarray:
    """Points in a prism, as Tanks and Temples describes it.

    Args:
        points: ``(N, 3)``.
        crop: ``orthogonal_axis`` (X, Y or Z), ``axis_min``, ``axis_max`` along it, and
            ``bounding_polygon``, corners of which the other two coordinates count.
    """
    axis = "XYZ".index(str(crop["orthogonal_axis"]).upper())
    u, v = (other for other in range(3) if other != axis)
    inside = (points[:, axis] >= crop["axis_min"]) & (points[:, axis] <= crop["axis_max"])
    corners = np.asarray(crop["bounding_polygon"], dtype=np.float64)[:, [u, v]]
    x, y = points[:, u], points[:, v]
    odd = np.zeros(len(points), dtype=bool)  # edges that a ray towards +u crosses
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0)):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            odd ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return points[inside & odd]


def f1_tnt(
    pred: np.ndarray,
    gt: np.ndarray,
    threshold: float,
    transform: np.ndarray | None = None,
    crop: dict | None = None,
) -> dict[str, float]:
    """F1 after the steps of Tanks and Temples (Knapitsch et al. 2017).

    Args:
        pred: ``(N, 3)``.
        gt: ``(M, 3)``.
        threshold: In the unit of ``gt``.
        transform: ``(4, 4)`` prediction to truth. Defaults to the identity.
        crop: See :func:`crop_to_polygon`. Defaults to None: everything counts.

    Returns:
        As :func:`f1_score`, of points thinned to one per cell of half the threshold, after
        rigid alignment of pairs within three thresholds.
    """
    if transform is not None:
        pred = pred @ transform[:3, :3].T + transform[:3, 3]
    if crop is not None:
        pred, gt = crop_to_polygon(pred, crop), crop_to_polygon(gt, crop)
    if not len(pred) or not len(gt):
        return f1_score(pred, gt, threshold)
    pred, gt = thin_points(pred, threshold / 2), thin_points(gt, threshold / 2)
    matrix = icp(pred, gt, threshold=3 * threshold)
    pred = pred @ matrix[:3, :3].T + matrix[:3, 3]
    return f1_score(pred, gt, threshold)


@dataclass
class PointMapAlignment:
    """Aligned maps, one per view, and the numbers that aligned them."""

    gt: list[Tensor]
    pred: list[Tensor]
    gt_shift_z: float
    pred_shift_z: float
    gt_scale: float
    pred_scale: float


def _median_spread(points: Tensor) -> Tensor:
    """Lower median of the distance to the coordinate-wise lower median, ``(N, 3)``."""
    centre = points.median(dim=0).values
    return (points - centre).norm(dim=-1).median()


def align_point_maps_by_median(
    gt_points: Sequence[Tensor],
    gt_camera: Tensor,
    pred_points: Sequence[Tensor],
    valid: Sequence[Tensor],
) -> PointMapAlignment:
    """Bring predicted point maps to depth and size of the true ones by medians.

    The ground truth is taken to the first camera. Both are shifted in z by their own
    median, then the prediction is scaled about the origin by the ratio of the median
    distances to the median centre. All medians are lower ones over the valid pixels of all
    views together.

    Args:
        gt_points: World points of each view ``(H, W, 3)``.
        gt_camera: Camera to world of the first view ``(4, 4)``.
        pred_points: Points of each view in the first camera's frame ``(H, W, 3)``.
        valid: Masks of the ground truth ``(H, W)`` bool.
    """
    world_to_first = se3_inverse(gt_camera)
    gt = [transform_points(world_to_first, p.flatten(0, 1)).view_as(p) for p in gt_points]
    pred = list(pred_points)

    def joint(maps: Sequence[Tensor]) -> Tensor:
        return torch.cat([points[mask] for points, mask in zip(maps, valid)])

    shifts = []
    for maps in (gt, pred):
        shift = joint(maps)[:, 2].median()
        offset = torch.stack([torch.zeros_like(shift), torch.zeros_like(shift), shift])
        maps[:] = [points - offset for points in maps]
        shifts.append(float(shift))
    gt_scale, pred_scale = _median_spread(joint(gt)), _median_spread(joint(pred))
    pred_scale = pred_scale.clamp(1e-3, 1e3)
    pred = [points * (gt_scale / pred_scale) for points in pred]
    return PointMapAlignment(gt, pred, *shifts, float(gt_scale), float(pred_scale))
