"""Covariance and precision of Gaussians from rotation and scale."""

from torch import Tensor

from mmcity_ops import _backend as backend
from mmcity_ops.reference import covariance as reference


def quat_scale_to_covar_preci(
    quats: Tensor,  # [..., 4] wxyz
    scales: Tensor,  # [..., 3]
    compute_covar: bool = True,
    compute_preci: bool = True,
    triu: bool = False,
) -> tuple[Tensor | None, Tensor | None]:
    """Covariances R diag(s^2) R^T and precisions R diag(s^-2) R^T of Gaussians.

    Args:
        quats: Rotations [..., 4] as wxyz, of any length; a zero quaternion counts as the
            identity and gets no gradient.
        scales: Standard deviations [..., 3] along the rotated axes, positive.
        compute_covar: Whether to return covariances. Defaults to True.
        compute_preci: Whether to return precisions. Defaults to True.
        triu: Return the upper triangle [..., 6] in the order 11, 12, 13, 22, 23, 33 instead of
            [..., 3, 3]. Defaults to False.

    Returns:
        Covariances and precisions; None for what was not asked for.

    Raises:
        ValueError: If a shape does not fit.
        TypeError: If a dtype is not float32 or float64, or they differ.
        RuntimeError: If the tensors are on different devices.
    """
    backend.check_last("quats", quats, 4)
    backend.check_shape("scales", scales, (*quats.shape[:-1], 3))
    backend.check_float(quats=quats, scales=scales)
    backend.check_device(quats=quats, scales=scales)
    backend.check_finite(quats=quats, scales=scales)
    return reference.quat_scale_to_covar_preci(quats, scales, compute_covar, compute_preci, triu)
