"""Projection of 3D Gaussians into cameras."""

import torch
from torch import Tensor

from mmcity_ops import _backend as backend
from mmcity_ops.functional import _native_projection
from mmcity_ops.functional._native_projection import CAMERA_MODELS
from mmcity_ops.reference import projection as reference

_reference = backend.float32_under_autocast(reference.fully_fused_projection)


def check_gaussians(
    means: Tensor,
    covars: Tensor | None,
    quats: Tensor | None,
    scales: Tensor | None,
    opacities: Tensor | None,
) -> None:
    """Shapes, types and devices of world-space Gaussians; either covars or quats and scales."""
    backend.check_last("means", means, 3)
    rows = means.shape[:-1]
    if covars is not None:
        if quats is not None or scales is not None:
            raise ValueError("covars excludes quats and scales: expected one of them, got both")
        backend.check_shape("covars", covars, (*rows, 3, 3))
    else:
        if quats is None or scales is None:
            raise ValueError("expected covars, or quats and scales, got neither in full")
        backend.check_shape("quats", quats, (*rows, 4))
        backend.check_shape("scales", scales, (*rows, 3))
    if opacities is not None:
        backend.check_shape("opacities", opacities, rows)


def check_cameras(batch: tuple[int, ...], viewmats: Tensor, Ks: Tensor | None) -> None:
    """Shapes of world-to-camera matrices and intrinsics with the batch sizes of the Gaussians."""
    backend.check_shape("viewmats", viewmats, (*batch, "C", 4, 4))
    if Ks is not None:
        backend.check_shape("Ks", Ks, (*viewmats.shape[:-2], 3, 3))


def fully_fused_projection(
    means: Tensor,  # [..., N, 3]
    covars: Tensor | None,  # [..., N, 3, 3]
    quats: Tensor | None,  # [..., N, 4] wxyz
    scales: Tensor | None,  # [..., N, 3]
    viewmats: Tensor,  # [..., C, 4, 4]
    Ks: Tensor,  # [..., C, 3, 3]
    width: int,
    height: int,
    *,
    opacities: Tensor | None = None,  # [..., N]
    eps2d: float = 0.3,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    packed: bool = False,
    sparse_grad: bool = False,
    calc_compensations: bool = False,
    camera_model: str = "pinhole",
) -> tuple:
    """Project Gaussians to pixels: centres, depths, conics and box radii.

    The covariance is carried through the camera's Jacobian (EWA splatting) and widened by
    ``eps2d``. No gradient flows through culling and radii.

    Args:
        means: Centres [..., N, 3] in the world, metres.
        covars: Covariances [..., N, 3, 3], instead of ``quats`` and ``scales``.
        quats: Rotations [..., N, 4] as wxyz, normalized here.
        scales: Standard deviations [..., N, 3], metres.
        viewmats: World-to-camera matrices [..., C, 4, 4], OpenCV axes; differentiable.
        Ks: Intrinsics [..., C, 3, 3] in pixels, no skew; not differentiable.
        width: Image width in pixels.
        height: Image height in pixels.
        opacities: Opacities [..., N]; when given, boxes end where alpha falls below 1/255.
            With ``calc_compensations`` the compensated opacity decides. Defaults to None.
        eps2d: Variance in square pixels added to the diagonal. Defaults to 0.3.
        near_plane: Gaussians nearer than this (camera z) are culled. Defaults to 0.01.
        far_plane: Gaussians farther than this are culled. Defaults to 1e10.
        radius_clip: Gaussians with both radii at or below this are culled. Defaults to 0.
        packed: Return only visible (camera, Gaussian) rows. Defaults to False.
        sparse_grad: With ``packed``, gradients of means, quats and scales are sparse COO
            tensors over the visible Gaussians. Defaults to False.
        calc_compensations: Return sqrt(det / det of the widened covariance). Defaults to False.
        camera_model: ``pinhole``, ``ortho`` or ``fisheye`` (equidistant).

    Returns:
        Dense: radii int32 [..., C, N, 2], means2d [..., C, N, 2], depths [..., C, N], conics
        [..., C, N, 3] (A, B, C of the inverse covariance), compensations [..., C, N] or None.
        Rows that are culled are 0 everywhere.
        Packed: batch_ids, camera_ids, gaussian_ids int64 [nnz] in ascending order, indptr
        int64 [B * C + 1], then the five of above with one leading [nnz].

    Raises:
        ValueError: If a shape, a choice or a combination of arguments does not fit.
        TypeError: If a dtype is not float32 or float64, or they differ.
        RuntimeError: If the tensors are on different devices.
    """
    check_gaussians(means, covars, quats, scales, opacities)
    check_cameras(means.shape[:-2], viewmats, Ks)
    floats = dict(means=means, covars=covars, quats=quats, scales=scales, opacities=opacities)
    floats.update(viewmats=viewmats, Ks=Ks)
    backend.check_device(**floats)
    if not torch.is_autocast_enabled(means.device.type):
        backend.check_float(**floats)
    backend.check_finite(**floats)
    backend.check_choice("camera_model", camera_model, CAMERA_MODELS)
    if sparse_grad and not packed:
        raise ValueError("packed: expected True for sparse_grad=True, got False")
    if sparse_grad and covars is not None:
        raise ValueError("covars: expected quats and scales for sparse_grad=True, got covars")
    tensors = (means, covars, quats, scales, viewmats, Ks, opacities)
    settings = dict(
        width=width, height=height, eps2d=float(eps2d), near_plane=float(near_plane),
        far_plane=float(far_plane), radius_clip=float(radius_clip),
        calc_compensations=calc_compensations, camera_model=camera_model,
    )  # fmt: skip
    if backend.use_native(means):
        return _native_projection.project(tensors, packed, sparse_grad, **settings)
    return _reference(*tensors, packed=packed, **settings)
