"""Relations between overlapping views: neighbours, reprojection, homographies.

``pixel_offset`` is where the centre of the first pixel lies: 0.5 here, 0 in the conventions
of several research codes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional as F

from mmcity.utils.scalars import constant

from .cameras import Cameras

#: Least share of the depth of a point in its distance.
_FLATTEST = 1e-7


def find_neighbours(
    cameras: Cameras,
    count: int = 8,
    max_angle: float = 30.0,
    min_distance: float = 0.01,
    max_distance: float = 1.5,
) -> list[list[int]]:
    """Views with nearby centres that look the same way, nearest first.

    Args:
        cameras: C cameras.
        count: Largest number of neighbours. Defaults to 8.
        max_angle: Degrees between optical axes, exclusive. Defaults to 30.
        min_distance: World units between centres, exclusive. Defaults to 0.01.
        max_distance: Likewise. Defaults to 1.5.

    Returns:
        Row numbers per camera; rows without neighbours are empty.
    """
    centers = cameras.centers.double().cpu().numpy()
    axes = cameras.viewmats[:, 2, :3].double().cpu().numpy()  # optical axes in the world
    near = cKDTree(centers).query_ball_point(centers, max_distance)
    out: list[list[int]] = []
    for row, others in enumerate(near):
        others = np.array(sorted(others), dtype=np.int64)
        distance = np.linalg.norm(centers[others] - centers[row], axis=1)
        # Rounding may carry the product of equal axes beyond 1.
        angle = np.degrees(np.arccos(np.clip(axes[others] @ axes[row], -1, 1)))
        keep = (angle < max_angle) & (distance > min_distance) & (distance < max_distance)
        order = np.lexsort((angle[keep], distance[keep]))
        out.append(others[keep][order][:count].tolist())
    return out


def pixel_rays(K: Tensor, width: int, height: int, pixel_offset: float = 0.5) -> Tensor:
    """``(H, W, 3)`` camera-frame rays with z = 1 through the pixel centres."""
    x = torch.arange(width, device=K.device, dtype=K.dtype) + pixel_offset
    y = torch.arange(height, device=K.device, dtype=K.dtype) + pixel_offset
    u = ((x - K[0, 2]) / K[0, 0]).expand(height, width)
    v = ((y - K[1, 2]) / K[1, 1])[:, None].expand(height, width)
    return torch.stack([u, v, torch.ones_like(u)], -1)


def sample_map(
    values: Tensor, pixels: Tensor, pixel_offset: float = 0.5, padding: str = "border"
) -> Tensor:
    """Bilinear values of maps at pixels.

    Args:
        values: ``(C, H, W)``.
        pixels: ``(..., 2)`` x, y.
        pixel_offset: See the module. Defaults to 0.5.
        padding: ``border`` or ``zeros`` beyond the outermost centres. Defaults to ``border``.

    Returns:
        ``(C, ...)``.
    """
    height, width = values.shape[-2:]
    span = constant([max(width - 1, 1), max(height - 1, 1)], pixels)
    grid = 2 * (pixels - pixel_offset) / span - 1
    flat = grid.reshape(1, 1, -1, 2)
    out = F.grid_sample(values[None], flat, padding_mode=padding, align_corners=True)
    return out.reshape(len(values), *pixels.shape[:-1])


def _move(points: Tensor, viewmat: Tensor) -> Tensor:
    return points @ viewmat[:3, :3].T + viewmat[:3, 3]


def _seen_depth(points: Tensor) -> tuple[Tensor, Tensor]:
    """z ``(..., 1)`` of points, 1 where they lie in the plane of the camera; where they do not.

    Those have no picture: a division by their depth would spoil the gradients of all others.
    """
    is_seen = points[..., 2].abs() > _FLATTEST * points.detach().norm(dim=-1)
    return torch.where(is_seen[..., None], points[..., 2:], 1.0), is_seen


def _project(points: Tensor, K: Tensor) -> Tensor:
    depth, _ = _seen_depth(points)
    return torch.cat(
        [points[..., :1] / depth * K[0, 0] + K[0, 2], points[..., 1:2] / depth * K[1, 1] + K[1, 2]],
        -1,
    )


def reproject(
    depth: Tensor,
    K: Tensor,
    viewmat: Tensor,
    other_depth: Tensor,
    other_K: Tensor,
    other_viewmat: Tensor,
    *,
    pixel_offset: float = 0.5,
    min_depth: float = 0.1,
) -> dict[str, Tensor]:
    """Carry each pixel to another view by its depth, and back by the depth found there.

    Args:
        depth: ``(H, W)`` z-depth.
        K: ``(3, 3)``.
        viewmat: ``(4, 4)`` world to camera.
        other_depth: ``(H2, W2)`` of the other view.
        other_K: ``(3, 3)``.
        other_viewmat: ``(4, 4)``.
        pixel_offset: See the module. Defaults to 0.5.
        min_depth: Points need more depth than this in the other view. Defaults to 0.1.

    Returns:
        ``world`` (H, W, 3), ``other`` (H, W, 3) in the other camera, ``sampled`` (H, W) the
        depth found there, ``valid`` (H, W) bool (inside the other picture, in front),
        ``pixels`` (H, W, 2) where the pixel comes back to, ``depth_back`` (H, W), ``error``
        (H, W) px, infinite where it does not come back: depth 0 of a camera beside this one leads
        to that camera's centre, which no picture shows.
    """
    height, width = depth.shape
    rays = pixel_rays(K, width, height, pixel_offset)
    rotation, shift = viewmat[:3, :3], viewmat[:3, 3]
    world = (rays * depth[..., None] - shift) @ rotation
    other = _move(world, other_viewmat)
    there = _project(other, other_K)  # (H, W, 2)
    other_height, other_width = other_depth.shape
    inside = (there[..., 0] > 0) & (there[..., 0] < other_width)
    inside &= (there[..., 1] > 0) & (there[..., 1] < other_height)
    sampled = sample_map(other_depth[None], there, pixel_offset)[0]
    other_z, is_seen = _seen_depth(other)
    rescaled = other / other_z * sampled[..., None]
    back_world = (rescaled - other_viewmat[:3, 3]) @ other_viewmat[:3, :3]
    back = _move(back_world, viewmat)
    # Without the principal point: where a pixel comes back to within rounding, the error and
    # above all its direction would be what is left of two numbers of some hundred pixels.
    back_z, comes_back = _seen_depth(back)
    moved = (back[..., :2] / back_z - rays[..., :2]) * torch.stack([K[0, 0], K[1, 1]])
    return dict(
        world=world,
        other=other,
        sampled=sampled,
        valid=inside & (other[..., 2] > min_depth),
        pixels=_project(back, K),
        depth_back=back[..., 2],
        error=torch.where(is_seen & comes_back, moved.norm(dim=-1), torch.inf),
    )


@torch.no_grad()
def consistent_depth(
    depths: Sequence[Tensor],
    cameras: Cameras,
    row: int,
    neighbours: Sequence[int],
    *,
    max_error: float = 1.0,
    min_agreeing: int = 2,
    pixel_offset: float = 0.5,
    min_depth: float = 0.0,
) -> Tensor:
    """Pixels whose depth enough neighbours agree with.

    A neighbour agrees where the pixel, carried there and back, returns within ``max_error``.

    Args:
        depths: ``(H, W)`` z-depth per camera; infinite where there is none.
        cameras: One per depth map.
        row: The view in question.
        neighbours: Rows of its neighbours.
        max_error: px. Defaults to 1.0.
        min_agreeing: Neighbours that must agree. Defaults to 2.
        pixel_offset: See the module. Defaults to 0.5.
        min_depth: A point needs more depth in both views. Defaults to 0.

    Returns:
        ``(H, W)`` bool.
    """
    votes = torch.zeros(depths[row].shape, dtype=torch.long, device=depths[row].device)
    for other in neighbours:
        there = reproject(
            depths[row],
            cameras.Ks[row],
            cameras.viewmats[row],
            depths[other],
            cameras.Ks[other],
            cameras.viewmats[other],
            pixel_offset=pixel_offset,
            min_depth=min_depth,
        )
        close = (there["error"] < max_error) & (there["depth_back"] > min_depth)
        votes += there["valid"] & close
    return votes >= min_agreeing


def homographies(
    normals: Tensor,
    distances: Tensor,
    K: Tensor,
    viewmat: Tensor,
    other_K: Tensor,
    other_viewmat: Tensor,
) -> Tensor:
    """``(P, 3, 3)`` maps of pixels to another view's pixels, induced by planes.

    ``H = K' (R - t n^T / d) K^-1`` with R, t from this camera to the other.

    Args:
        normals: ``(P, 3)`` in this camera's axes, towards the camera.
        distances: ``(P,)`` from the camera to the plane, above 0.
        K: ``(3, 3)``.
        viewmat: ``(4, 4)``.
        other_K: ``(3, 3)``.
        other_viewmat: ``(4, 4)``.
    """
    rotation = other_viewmat[:3, :3] @ viewmat[:3, :3].T
    shift = other_viewmat[:3, 3] - rotation @ viewmat[:3, 3]
    slope = normals / distances[:, None]
    planes = rotation - shift[:, None] * slope[:, None, :]  # (P, 3, 3)
    return other_K @ planes @ torch.linalg.inv_ex(K)[0]
