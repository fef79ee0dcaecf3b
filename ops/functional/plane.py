"""Planes of flat Gaussians and unbiased depth from them (planar Gaussian splatting)."""

import math

import torch
from torch import Tensor

from mmcity_ops import _backend as backend
from mmcity_ops.functional.projection import check_cameras
from mmcity_ops.reference import plane as reference


def plane_features(
    means: Tensor,  # [..., N, 3]
    quats: Tensor,  # [..., N, 4] wxyz
    scales: Tensor,  # [..., N, 3]
    viewmats: Tensor,  # [..., C, 4, 4]
    camera_ids: Tensor | None = None,  # [nnz]
    gaussian_ids: Tensor | None = None,  # [nnz]
) -> Tensor:
    """Camera-frame normal and camera-to-plane distance of each Gaussian, for compositing.

    The normal is the axis of the smallest scale (ties: the first), turned towards the camera.
    The constant channel that planar methods carry along equals the rendered alpha and is left
    out. No gradient reaches the choice of axis and the turn.

    Args:
        means: Centres [..., N, 3].
        quats: Rotations [..., N, 4] as wxyz.
        scales: Standard deviations [..., N, 3]; only their order matters.
        viewmats: World-to-camera matrices [..., C, 4, 4].
        camera_ids: For packed rows, the camera [nnz] of each, with no batch dimensions.
        gaussian_ids: For packed rows, the Gaussian [nnz] of each.

    Returns:
        Features [..., C, N, 4], or [nnz, 4]: normal (3, unit) and distance (1, metres, >= 0).

    Raises:
        ValueError: If a shape does not fit.
        TypeError: If a dtype is not float32 or float64, or they differ.
        RuntimeError: If the tensors are on different devices.
    """
    backend.check_last("means", means, 3)
    backend.check_shape("quats", quats, (*means.shape[:-1], 4))
    backend.check_shape("scales", scales, (*means.shape[:-1], 3))
    check_cameras(means.shape[:-2], viewmats, None)
    floats = dict(means=means, quats=quats, scales=scales, viewmats=viewmats)
    backend.check_float(**floats)
    backend.check_device(**floats, camera_ids=camera_ids, gaussian_ids=gaussian_ids)
    backend.check_finite(**floats)
    if (camera_ids is None) != (gaussian_ids is None):
        raise ValueError("camera_ids and gaussian_ids: expected both or none")
    if gaussian_ids is not None and means.dim() != 2:
        raise ValueError(
            f"means: expected packed rows [N, 3] without batch, got {list(means.shape)}"
        )
    if gaussian_ids is not None:
        backend.check_shape("camera_ids", camera_ids, gaussian_ids.shape)
        backend.check_shape("viewmats", viewmats, ("C", 4, 4))
    if not backend.use_native(means):
        return backend.float32_under_autocast(reference.plane_features)(
            means, quats, scales, viewmats, camera_ids, gaussian_ids
        )
    if gaussian_ids is not None:
        features = torch.ops.mmcity.plane_features_fwd(
            means, quats, scales, viewmats, camera_ids, gaussian_ids
        )
        backend.check_refused(means)
        return features
    batch = math.prod(means.shape[:-2])
    features = torch.ops.mmcity.plane_features_fwd(
        means.reshape(batch, *means.shape[-2:]), quats.reshape(batch, *quats.shape[-2:]),
        scales.reshape(batch, *scales.shape[-2:]), viewmats.reshape(batch, *viewmats.shape[-3:]),
        None, None,
    )  # fmt: skip
    return features.reshape(*viewmats.shape[:-2], means.shape[-2], 4)


def plane_depth(
    normals: Tensor,  # [..., C, H, W, 3]
    distances: Tensor,  # [..., C, H, W, 1]
    alphas: Tensor,  # [..., C, H, W, 1]
    Ks: Tensor,  # [..., C, 3, 3]
    *,
    min_alpha: float = 1e-3,
    min_cosine: float = 0.05,
) -> tuple[Tensor, Tensor]:
    """Depth at which each pixel's ray meets the composited plane.

    With ray r = ((u - cx) / fx, (v - cy) / fy, 1) the depth is d / -(N . r + 1e-8). Normal and
    distance carry the same weights, so the depth is unbiased where alpha is below 1.

    Args:
        normals: Composited camera-frame normals [..., C, H, W, 3], background 0.
        distances: Composited plane distances [..., C, H, W, 1], background 0.
        alphas: Alpha [..., C, H, W, 1].
        Ks: Intrinsics [..., C, 3, 3]; not differentiable.
        min_alpha: Pixels need more alpha than this. Defaults to 1e-3.
        min_cosine: Pixels need -N . r above this share of alpha. Defaults to 0.05.

    Returns:
        Depth [..., C, H, W, 1] (0 where invalid, without gradient) and a bool validity mask.

    Raises:
        ValueError: If a shape does not fit.
        TypeError: If a dtype is not float32 or float64, or they differ.
        RuntimeError: If the tensors are on different devices.
    """
    backend.check_last("normals", normals, 3)
    backend.check_shape("distances", distances, (*normals.shape[:-1], 1))
    backend.check_shape("alphas", alphas, (*normals.shape[:-1], 1))
    backend.check_shape("Ks", Ks, (*normals.shape[:-3], 3, 3))
    floats = dict(normals=normals, distances=distances, alphas=alphas, Ks=Ks)
    backend.check_float(**floats)
    backend.check_device(**floats)
    if not backend.use_native(normals):
        return backend.float32_under_autocast(reference.plane_depth)(
            normals, distances, alphas, Ks, min_alpha, min_cosine
        )
    count = math.prod(normals.shape[:-3])
    images = [t.reshape(count, *t.shape[-3:]) for t in (normals, distances, alphas)]
    depth, valid = torch.ops.mmcity.plane_depth_fwd(
        *images, Ks.reshape(count, 3, 3), min_alpha, min_cosine
    )
    return depth.reshape(distances.shape), valid.reshape(distances.shape)


def _fake_features(means, quats, scales, viewmats, camera_ids, gaussian_ids):
    if gaussian_ids is not None:
        return means.new_empty((gaussian_ids.shape[0], 4))
    return means.new_empty((means.shape[0], viewmats.shape[1], means.shape[1], 4))


def _fake_features_bwd(v_features, means, quats, scales, viewmats, camera_ids, gaussian_ids, poses):
    return (
        means.new_empty(means.shape),
        quats.new_empty(quats.shape),
        viewmats.new_empty(viewmats.shape if poses else (0,)),
    )


def _setup_features(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _features_backward(ctx, v_features):
    v_means, v_quats, v_viewmats = torch.ops.mmcity.plane_features_bwd(
        v_features, *ctx.saved_tensors, ctx.needs_input_grad[3]
    )
    return backend.needed_gradients(ctx, v_means, v_quats, None, v_viewmats)


def _fake_depth(normals, distances, alphas, Ks, min_alpha, min_cosine):
    shape = distances.shape
    return distances.new_empty(shape), distances.new_empty(shape, dtype=torch.bool)


def _setup_depth(ctx, inputs, output):
    normals, distances, _, Ks, _, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(normals, distances, output[1], Ks)


def _depth_backward(ctx, v_depth, _):
    grads = torch.ops.mmcity.plane_depth_bwd(v_depth, *ctx.saved_tensors)
    return backend.needed_gradients(ctx, *grads)


backend.register_operator(
    "plane_features", _fake_features, _fake_features_bwd, _setup_features, _features_backward
)
backend.register_operator(
    "plane_depth", _fake_depth, backend.shapes_of(1, 3), _setup_depth, _depth_backward
)
