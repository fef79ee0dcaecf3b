"""Torch oracle: real spherical harmonics of degree 0 to 4."""

import torch
from torch import Tensor

MAX_DEGREE = 4


def sh_bases(degree: int, dirs: Tensor) -> Tensor:
    """Basis values [..., (degree + 1)^2] at unit directions [..., 3]."""
    x, y, z = dirs.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    xy, yz, xz = x * y, y * z, x * z
    bases = [torch.full_like(x, 0.28209479177387814)]
    if degree > 0:
        bases += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree > 1:
        bases += [
            1.0925484305920792 * xy,
            -1.0925484305920792 * yz,
            0.31539156525252005 * (2 * zz - xx - yy),
            -1.0925484305920792 * xz,
            0.5462742152960396 * (xx - yy),
        ]
    if degree > 2:
        bases += [
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * xy * z,
            -0.4570457994644658 * y * (4 * zz - xx - yy),
            0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
            -0.4570457994644658 * x * (4 * zz - xx - yy),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ]
    if degree > 3:
        bases += [
            2.5033429417967046 * xy * (xx - yy),
            -1.7701307697799304 * yz * (3 * xx - yy),
            0.9461746957575601 * xy * (7 * zz - 1),
            -0.6690465435572892 * yz * (7 * zz - 3),
            0.10578554691520431 * (35 * zz * zz - 30 * zz + 3),
            -0.6690465435572892 * xz * (7 * zz - 3),
            0.47308734787878004 * (xx - yy) * (7 * zz - 1),
            -1.7701307697799304 * xz * (xx - 3 * yy),
            0.6258357354491761 * (xx * (xx - 3 * yy) - yy * (3 * xx - yy)),
        ]
    return torch.stack(bases, -1)


def camera_centers(viewmats: Tensor) -> Tensor:
    """World positions [..., C, 3] of the cameras: -R^T t."""
    return -torch.einsum("...ij,...i->...j", viewmats[..., :3, :3], viewmats[..., :3, 3])


def spherical_harmonics(
    degree: int,
    means: Tensor,
    viewmats: Tensor,
    coeffs: Tensor | tuple[Tensor, Tensor],
    masks: Tensor | None = None,
    camera_ids: Tensor | None = None,
    gaussian_ids: Tensor | None = None,
) -> Tensor:
    """See :func:`mmcity_ops.spherical_harmonics`."""
    if not isinstance(coeffs, Tensor):
        coeffs = torch.cat(tuple(coeffs), -2) if degree > 0 else coeffs[0]
    coeffs = coeffs[..., : (degree + 1) ** 2, :]  # [..., N, K, D]
    centers = camera_centers(viewmats)
    if gaussian_ids is not None:
        dirs = means[gaussian_ids] - centers[camera_ids]  # [nnz, 3]
        coeffs = coeffs[gaussian_ids]
    else:
        dirs = means[..., None, :, :] - centers[..., None, :]  # [..., C, N, 3]
        coeffs = coeffs[..., None, :, :, :]
    norm2 = dirs.square().sum(-1, keepdim=True)
    dirs = dirs / torch.where(norm2 > 0, norm2, 1.0).sqrt()
    colors = (sh_bases(degree, dirs)[..., None] * coeffs).sum(-2)
    if masks is not None:
        colors = torch.where(masks[..., None], colors, torch.zeros_like(colors))
    return colors
