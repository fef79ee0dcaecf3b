"""Torch oracle: planes of flat Gaussians, and depth from composited planes."""

import torch
from torch import Tensor

from mmcity_ops.reference.covariance import quats_to_rotmats
from mmcity_ops.reference.spherical_harmonics import camera_centers

DENOMINATOR_EPS = 1e-8


def plane_features(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    viewmats: Tensor,
    camera_ids: Tensor | None = None,
    gaussian_ids: Tensor | None = None,
) -> Tensor:
    """See :func:`mmcity_ops.plane_features`."""
    first, second, third = scales.unbind(-1)
    axis = torch.where(second <= third, 1, 2)
    axis = torch.where(first <= torch.minimum(second, third), 0, axis)  # [..., N]
    rotmats = quats_to_rotmats(quats)
    index = axis[..., None, None].expand(*axis.shape, 3, 1)
    normals = rotmats.gather(-1, index).squeeze(-1)  # [..., N, 3] in the world
    centers = camera_centers(viewmats)
    if gaussian_ids is not None:
        rot, trans = viewmats[camera_ids, :3, :3], viewmats[camera_ids, :3, 3]
        means, normals = means[gaussian_ids], normals[gaussian_ids]
        to_camera = centers[camera_ids] - means
        rotate = "rij,rj->ri"
    else:
        rot, trans = viewmats[..., :3, :3], viewmats[..., None, :3, 3]
        to_camera = centers[..., :, None, :] - means[..., None, :, :]
        normals, means = normals[..., None, :, :], means[..., None, :, :]
        rotate = "...cij,...cnj->...cni"
    facing = (normals * to_camera).sum(-1, keepdim=True) >= 0
    normals = torch.where(facing, normals, -normals)  # [..., C, N, 3]
    normals_c = torch.einsum(rotate, rot, normals)
    means_c = torch.einsum(rotate, rot, means.expand_as(to_camera)) + trans
    distances = (normals_c * means_c).sum(-1, keepdim=True).abs()
    return torch.cat((normals_c, distances), -1)


def plane_depth(
    normals: Tensor,
    distances: Tensor,
    alphas: Tensor,
    Ks: Tensor,
    min_alpha: float = 1e-3,
    min_cosine: float = 0.05,
) -> tuple[Tensor, Tensor]:
    """See :func:`mmcity_ops.plane_depth`."""
    height, width = normals.shape[-3:-1]
    options = dict(dtype=normals.dtype, device=normals.device)
    cols = torch.arange(width, **options) + 0.5
    rows = torch.arange(height, **options) + 0.5
    fx, fy = Ks[..., 0, 0, None], Ks[..., 1, 1, None]
    ray_x = ((cols - Ks[..., 0, 2, None]) / fx)[..., None, :]  # [..., C, 1, W]
    ray_y = ((rows - Ks[..., 1, 2, None]) / fy)[..., :, None]  # [..., C, H, 1]
    along_ray = normals[..., 0] * ray_x + normals[..., 1] * ray_y + normals[..., 2]
    along_ray = along_ray[..., None]  # [..., C, H, W, 1]
    valid = (alphas > min_alpha) & (-along_ray > min_cosine * alphas)
    denominator = torch.where(valid, -(along_ray + DENOMINATOR_EPS), 1.0)
    depth = torch.where(valid, distances / denominator, 0.0)
    return depth, valid
