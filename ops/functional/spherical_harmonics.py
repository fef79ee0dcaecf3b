"""View-dependent colours from spherical harmonics."""

import torch
from torch import Tensor

from mmcity_ops import _backend as backend
from mmcity_ops.functional import _native_sh
from mmcity_ops.functional.projection import check_cameras
from mmcity_ops.reference import spherical_harmonics as reference

MAX_DEGREE = 4

_reference = backend.float32_under_autocast(reference.spherical_harmonics)


def check_coeffs(degree: int, rows: tuple, coeffs: Tensor | tuple[Tensor, Tensor]) -> None:
    """Shapes of joined [..., N, K, D] or split [..., N, 1, D] and [..., N, K - 1, D] values."""
    if not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"degree: expected 0 to {MAX_DEGREE}, got {degree}")
    needed = (degree + 1) ** 2
    if isinstance(coeffs, Tensor):
        backend.check_shape("coeffs", coeffs, (*rows, "K", "D"))
        available = coeffs.shape[-2]
    else:
        base, rest = coeffs
        backend.check_shape("coeffs[0]", base, (*rows, 1, "D"))
        backend.check_shape("coeffs[1]", rest, (*rows, "K - 1", base.shape[-1]))
        available = 1 + rest.shape[-2]
    if available < needed:
        raise ValueError(
            f"coeffs: expected K >= {needed} coefficients for degree {degree}, got {available}"
        )


def spherical_harmonics(
    degree: int,
    means: Tensor,  # [..., N, 3]
    viewmats: Tensor,  # [..., C, 4, 4]
    coeffs: Tensor | tuple[Tensor, Tensor],  # [..., N, K, D]
    masks: Tensor | None = None,  # [..., C, N]
    camera_ids: Tensor | None = None,  # [nnz]
    gaussian_ids: Tensor | None = None,  # [nnz]
) -> Tensor:
    """Colours of Gaussians seen from cameras: sum of coefficients times basis values.

    The direction is that from the camera centre to the mean; gradients reach coefficients,
    means and viewmats.

    Args:
        degree: Degree in use, 0 to 4; reads the first (degree + 1)^2 coefficients.
        means: Centres [..., N, 3].
        viewmats: World-to-camera matrices [..., C, 4, 4].
        coeffs: Coefficients [..., N, K, D], or a pair of the constant ones [..., N, 1, D] and
            the others [..., N, K - 1, D], which are read in place.
        masks: Bool [..., C, N]; False gives zero colour and no gradient. Defaults to None.
        camera_ids: For packed rows, the camera [nnz] of each, with no batch dimensions.
        gaussian_ids: For packed rows, the Gaussian [nnz] of each.

    Returns:
        Colours [..., C, N, D], or [nnz, D] for packed rows. No offset is added, nothing clamped.

    Raises:
        ValueError: If a shape does not fit, or the degree needs more coefficients.
        TypeError: If a dtype is not float32 or float64, or they differ.
        RuntimeError: If the tensors are on different devices.
    """
    backend.check_last("means", means, 3)
    check_cameras(means.shape[:-2], viewmats, None)
    check_coeffs(degree, tuple(means.shape[:-1]), coeffs)
    base, rest = (coeffs, None) if isinstance(coeffs, Tensor) else coeffs
    floats = {"means": means, "viewmats": viewmats, "coeffs": base, "coeffs[1]": rest}
    backend.check_device(**floats, masks=masks, camera_ids=camera_ids, gaussian_ids=gaussian_ids)
    if not torch.is_autocast_enabled(means.device.type):
        backend.check_float(**floats)
    backend.check_finite(**floats)
    if (camera_ids is None) != (gaussian_ids is None):
        raise ValueError("camera_ids and gaussian_ids: expected both or none")
    if gaussian_ids is not None:
        if means.dim() != 2:
            raise ValueError(
                f"means: expected packed rows [N, 3] without batch, got {list(means.shape)}"
            )
        if masks is not None:
            raise ValueError("masks: expected none together with packed rows, got some")
        backend.check_shape("camera_ids", camera_ids, gaussian_ids.shape)
    elif masks is not None:
        wanted = (*means.shape[:-2], viewmats.shape[-3], means.shape[-2])
        backend.check_shape("masks", masks, wanted)
    rows = dict(masks=masks, camera_ids=camera_ids, gaussian_ids=gaussian_ids)
    return checked_harmonics(degree, means, viewmats, coeffs, shift=False, **rows)


def checked_harmonics(
    degree: int,
    means: Tensor,
    viewmats: Tensor,
    coeffs: Tensor | tuple[Tensor, Tensor],
    *,
    shift: bool,
    **rows: Tensor | None,
) -> Tensor:
    """Colours for arguments that were checked; ``shift`` gives ``max(SH + 0.5, 0)``.

    Args:
        degree, means, viewmats, coeffs: As in :func:`spherical_harmonics`.
        shift: No gradient passes where a shifted colour is clamped.
        **rows: ``masks``, ``camera_ids`` and ``gaussian_ids``.
    """
    if backend.use_native(means):
        base, rest = (coeffs, None) if isinstance(coeffs, Tensor) else coeffs
        colors = _native_sh.OPS.sh_fwd(degree, means, viewmats, base, rest, shift=shift, **rows)
        backend.check_refused(means)
        return colors
    colors = _reference(degree, means, viewmats, coeffs, **rows)
    return (colors + 0.5).clamp_min(0) if shift else colors
