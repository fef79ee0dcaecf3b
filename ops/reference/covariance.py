"""Torch oracle: rotation matrices, covariances and precisions of Gaussians."""

import torch
from torch import Tensor

TRIU = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def normalize_quats(quats: Tensor) -> Tensor:
    """Unit quaternions (wxyz); a zero quaternion becomes the identity and gets no gradient."""
    norm2 = quats.square().sum(-1, keepdim=True)  # [..., 1]
    is_zero = norm2 == 0
    unit = quats / torch.where(is_zero, 1.0, norm2).sqrt()
    identity = torch.zeros_like(quats)
    identity[..., 0] = 1
    return torch.where(is_zero, identity, unit)


def quats_to_rotmats(quats: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of quaternions [..., 4] (wxyz, any length)."""
    return raw_rotmats(normalize_quats(quats))


def raw_rotmats(quats: Tensor) -> Tensor:
    """The polynomial of unit quaternions [..., 4], evaluated on them as they are."""
    w, x, y, z = quats.unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def covariances(rotmats: Tensor, scales: Tensor) -> Tensor:
    """R diag(s^2) R^T [..., 3, 3] of rotations [..., 3, 3] and standard deviations [..., 3]."""
    scaled = rotmats * scales[..., None, :]
    return scaled @ scaled.transpose(-1, -2)


def to_triu(matrix: Tensor) -> Tensor:
    """Upper triangle [..., 6] in the order 11, 12, 13, 22, 23, 33."""
    return torch.stack([matrix[..., i, j] for i, j in TRIU], -1)


def quat_scale_to_covar_preci(
    quats: Tensor,
    scales: Tensor,
    compute_covar: bool = True,
    compute_preci: bool = True,
    triu: bool = False,
) -> tuple[Tensor | None, Tensor | None]:
    """See :func:`mmcity_ops.quat_scale_to_covar_preci`."""
    rotmats = quats_to_rotmats(quats)
    covars = precis = None
    if compute_covar:
        covars = covariances(rotmats, scales)
    if compute_preci:
        scaled = rotmats / scales[..., None, :]
        precis = scaled @ scaled.transpose(-1, -2)
    if triu:
        covars = None if covars is None else to_triu(covars)
        precis = None if precis is None else to_triu(precis)
    return covars, precis
