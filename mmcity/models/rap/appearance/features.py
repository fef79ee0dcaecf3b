"""Features of each Gaussian out of the maps of a reference photograph."""

import torch
import torch.nn.functional as F
from torch import Tensor

#: Added to the depth when projecting, so that points at the camera's plane stay finite.
_DEPTH_EPS = 0.01
#: First extent in px of the projected box at full size.
_FIRST_EXTENT = 1024.0


def init_box_coords(
    means: Tensor,
    num_maps: int = 3,
    coord_scale: float = 1.0,
    image_scale: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """First box coordinates ``(N, num_maps, 2)``.

    Sampled maps get two random convex mixtures of the axes, normalised to [-1, 1]; the last
    map's pair is the extent in px that its projection may have.
    """
    low, high = means.min(0).values, means.max(0).values
    unit = 2 * (means - low) / (high - low).clamp_min(1e-12) - 1  # (N, 3)
    weights = torch.rand(num_maps - 1, 2, 3, generator=generator).to(means)
    weights = weights / weights.sum(-1, keepdim=True)
    sampled = torch.einsum("nk,mck->nmc", unit, weights) * coord_scale
    last = torch.full_like(sampled[:, :1], _FIRST_EXTENT / image_scale)
    return torch.cat([sampled, last], 1)


def sample_features(maps: Tensor, box_coords: Tensor, coord_scale: float = 1.0) -> Tensor:
    """Features ``(N, M C)`` of maps ``(M, C, h, w)`` at coordinates ``(N, M, 2)``."""
    grid = (box_coords / coord_scale).transpose(0, 1)[:, :, None]  # (M, N, 1, 2)
    out = F.grid_sample(maps, grid, "bilinear", "border", align_corners=False)
    return out[..., 0].permute(2, 0, 1).flatten(1)


def project_features(
    feature_map: Tensor, extents: Tensor, means: Tensor, K: Tensor, viewmat: Tensor
) -> tuple[Tensor, Tensor]:
    """Features of a map where Gaussians project.

    Args:
        feature_map (Tensor): ``(C, h, w)``.
        extents (Tensor): ``(N, 2)`` height and width in px of each Gaussian's box.
        means (Tensor): ``(N, 3)``.
        K (Tensor): ``(3, 3)``.
        viewmat (Tensor): ``(4, 4)`` world to camera.

    Returns:
        tuple[Tensor, Tensor]: ``(N, C)``, 0 where a Gaussian falls outside, and ``(N,)`` bool
        that says which fall inside.
    """
    local = means @ viewmat[:3, :3].T + viewmat[:3, 3]
    flat = local @ K.T
    depth = flat[:, 2]
    uv = flat[:, :2] / (depth + _DEPTH_EPS)[:, None]
    extent = extents.flip(-1)  # width, height
    valid = ((uv > 0) & (uv < extent)).all(-1) & (depth > 0)
    grid = torch.where(valid[:, None], uv / (extent / 2) - 1, torch.zeros_like(uv))
    out = F.grid_sample(feature_map[None], grid[None, :, None], "bilinear", "border", False)
    return out[0, ..., 0].T * valid[:, None], valid


def box_coordinate_loss(box_coords: Tensor, coord_scale: float = 1.0) -> Tensor:
    """Mean distance by which the sampled coordinates leave [-1, 1]."""
    return F.relu((box_coords[:, :-1] / coord_scale).abs() - 1).mean()
