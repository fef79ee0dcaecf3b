"""Torch oracle: projection of 3D Gaussians to screen-space conics."""

import torch
from torch import Tensor

from mmcity_ops.reference.covariance import quat_scale_to_covar_preci

ALPHA_MIN = 1.0 / 255.0
EXTENT = 3.33
RHO_MIN = 0.005
RADIUS_LIMIT = 2.0**30
FISHEYE_EPS = 1e-7


def world_to_camera(means: Tensor, covars: Tensor, viewmats: Tensor) -> tuple[Tensor, Tensor]:
    """Means [..., C, N, 3] and covariances [..., C, N, 3, 3] in the camera frames."""
    rot, trans = viewmats[..., :3, :3], viewmats[..., :3, 3]  # [..., C, 3, 3], [..., C, 3]
    means_c = torch.einsum("...cij,...nj->...cni", rot, means) + trans[..., None, :]
    covars_c = torch.einsum("...cij,...njk,...clk->...cnil", rot, covars, rot)
    return means_c, covars_c


def _pinhole(x, y, z, intrinsics, size):
    (fx, fy, cx, cy), (width, height) = intrinsics, size
    margin_x, margin_y = 0.15 * width / fx, 0.15 * height / fy
    tx = z * torch.clamp(x / z, min=-(cx / fx + margin_x), max=(width - cx) / fx + margin_x)
    ty = z * torch.clamp(y / z, min=-(cy / fy + margin_y), max=(height - cy) / fy + margin_y)
    zero = torch.zeros_like(x)
    jacobian = (fx / z, zero, -fx * tx / z**2, zero, fy / z, -fy * ty / z**2)
    return fx * x / z + cx, fy * y / z + cy, jacobian


def _ortho(x, y, z, intrinsics, size):
    fx, fy, cx, cy = intrinsics
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return fx * x + cx, fy * y + cy, (fx * one, zero, zero, zero, fy * one, zero)


def _fisheye(x, y, z, intrinsics, size):
    fx, fy, cx, cy = intrinsics
    tiny = torch.finfo(x.dtype).tiny
    r = (x * x + y * y).clamp_min(tiny).sqrt() + FISHEYE_EPS
    theta = torch.atan2(r, z + FISHEYE_EPS)
    x2, y2 = x * x + FISHEYE_EPS, y * y
    q = x2 + y2
    s = 1 / (q + z * z)
    b = torch.atan2(r, z) / (r * q)
    a = z * s / q
    jacobian = (
        fx * (x2 * a + y2 * b), fx * x * y * (a - b), -fx * x * s,
        fy * x * y * (a - b), fy * (y2 * a + x2 * b), -fy * y * s,
    )  # fmt: skip
    return fx * x * theta / r + cx, fy * y * theta / r + cy, jacobian


CAMERAS = {"pinhole": _pinhole, "ortho": _ortho, "fisheye": _fisheye}


def project_dense(
    means: Tensor,
    covars: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    opacities: Tensor | None,
    *,
    width: int,
    height: int,
    eps2d: float,
    near_plane: float,
    far_plane: float,
    radius_clip: float,
    calc_compensations: bool,
    camera_model: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Dense projection with 3x3 covariances; rows that are culled are zero in every output."""
    means_c, covars_c = world_to_camera(means, covars, viewmats)
    z = means_c[..., 2]
    valid = (z >= near_plane) & (z <= far_plane)  # [..., C, N]
    safe = torch.where(valid[..., None], means_c, means_c.new_ones(3))
    x, y, z = safe.unbind(-1)
    fx, fy = Ks[..., 0, 0, None], Ks[..., 1, 1, None]  # [..., C, 1]
    cx, cy = Ks[..., 0, 2, None], Ks[..., 1, 2, None]
    u, v, jacobian = CAMERAS[camera_model](x, y, z, (fx, fy, cx, cy), (width, height))
    means2d = torch.stack((u, v), -1)
    jac = torch.stack(jacobian, -1).unflatten(-1, (2, 3))  # [..., C, N, 2, 3]
    covars2d = jac @ covars_c @ jac.transpose(-1, -2)

    s_xx, s_yy = covars2d[..., 0, 0], covars2d[..., 1, 1]
    s_xy = 0.5 * (covars2d[..., 0, 1] + covars2d[..., 1, 0])  # symmetric gradients
    det0 = s_xx * s_yy - s_xy * s_xy
    b_xx, b_yy = s_xx + eps2d, s_yy + eps2d
    det = b_xx * b_yy - s_xy * s_xy
    valid = valid & (det > 0)
    det = torch.where(valid, det, 1.0)
    conics = torch.stack((b_yy / det, -s_xy / det, b_xx / det), -1)
    compensations = (det0 / det).clamp_min(RHO_MIN**2).sqrt()

    with torch.no_grad():
        extent = torch.full_like(det, EXTENT)
        if opacities is not None:
            effective = opacities[..., None, :].expand_as(det)
            if calc_compensations:
                effective = effective * compensations
            valid = valid & (effective >= ALPHA_MIN)
            reach = 2 * torch.log(255 * effective.clamp_min(ALPHA_MIN))
            extent = torch.minimum(extent, reach.clamp_min(0).sqrt())
        radii = torch.stack(
            (extent * b_xx.clamp_min(0).sqrt(), extent * b_yy.clamp_min(0).sqrt()), -1
        )
        radii = radii.ceil().clamp_max(RADIUS_LIMIT)
        size = radii.new_tensor((width, height))
        valid = valid & (radii > radius_clip).any(-1)
        valid = valid & ((means2d + radii > 0) & (means2d - radii < size)).all(-1)
        valid = valid & (radii > 0).all(-1)

    def keep(values: Tensor) -> Tensor:
        mask = valid.reshape(valid.shape + (1,) * (values.dim() - valid.dim()))
        return torch.where(mask, values, torch.zeros((), dtype=values.dtype, device=values.device))

    return (
        keep(radii).to(torch.int32),
        keep(means2d),
        keep(z),
        keep(conics),
        keep(compensations) if calc_compensations else None,
    )


def pack(radii: Tensor, *values: Tensor | None) -> tuple:
    """Rows with positive radii: ids, row pointer, and the given tensors at those rows.

    Args:
        radii: [..., C, N, 2].
        *values: Tensors [..., C, N, ...], or None.

    Returns:
        ``batch_ids, camera_ids, gaussian_ids`` [nnz], ``indptr`` [B*C+1], packed radii and values.
    """
    n_cameras, n_gaussians = radii.shape[-3:-1]
    flat = radii.reshape(radii.shape[:-3].numel(), n_cameras, n_gaussians, 2)
    visible = (flat > 0).all(-1)  # [B, C, N]
    batch_ids, camera_ids, gaussian_ids = visible.nonzero(as_tuple=True)
    counts = visible.sum(-1).flatten()
    indptr = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    packed = [
        None
        if value is None
        else value.reshape(flat.shape[:3] + value.shape[radii.dim() - 1 :])[visible]
        for value in (radii, *values)
    ]
    return batch_ids, camera_ids, gaussian_ids, indptr, *packed


def fully_fused_projection(
    means: Tensor,
    covars: Tensor | None,
    quats: Tensor | None,
    scales: Tensor | None,
    viewmats: Tensor,
    Ks: Tensor,
    opacities: Tensor | None,
    packed: bool,
    **settings,
) -> tuple:
    """See :func:`mmcity_ops.fully_fused_projection`."""
    if covars is None:
        covars, _ = quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    dense = project_dense(means, covars, viewmats, Ks, opacities, **settings)
    return pack(*dense) if packed else dense
