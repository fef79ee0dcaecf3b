"""Semantic logits at points from Gaussians around them."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmcity_ops import _backend
from mmcity_ops.functional.covariance import quat_scale_to_covar_preci
from mmcity_ops.functional.voxelize_gaussians import grid_of
from mmcity_ops.reference import semantic_splat as reference

NORMALIZER = (2 * math.pi) ** -1.5  # of a three-dimensional normal density


def semantic_splat(
    points: Tensor,
    means: Tensor,
    precis: Tensor | tuple[Tensor, Tensor],
    opacities: Tensor,
    semantics: Tensor,
    *,
    vol_range: Sequence[float] | Tensor,
    voxel_size: float | Sequence[float] | Tensor,
    grid_shape: Sequence[int] | None = None,
    radii: Tensor | None = None,
    scale_multiplier: float = 3.0,
    probabilistic: bool = False,
    radius_min: int = 1,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """Sum the semantics of the Gaussians that act on each point.

    A Gaussian acts on the points whose cell ``trunc((x - min) / voxel_size)`` differs from its
    own by at most its radius on each axis: ``logits = sum o e S`` with
    ``e = exp(-0.5 d^T P d)`` (GaussianFormer). Probabilistic (GaussianFormer-2): with
    ``pi = (2 pi)^-1.5 sqrt(det P) e o``, ``logits = sum pi S / sum pi``, the probability that a
    point is occupied ``bin = 1 - prod(1 - e)``, and ``density = sum e``. Differentiable with
    respect to means, precisions (or quats and scales), opacities and semantics.

    Args:
        points: Positions in metres, [P, 3]; any number may share a cell. Not differentiated.
        means: Centres of Gaussians, [N, 3].
        precis: Inverse covariances [N, 3, 3], or the pair (quats wxyz [N, 4], scales [N, 3]).
        opacities: [N] or [N, 1].
        semantics: Class scores of Gaussians, [N, C].
        vol_range: Lower then upper corner of the grid, 6 numbers in metres.
        voxel_size: Edge of a cell in metres, one number or three.
        grid_shape: Cells per axis. Defaults to None, what fits into ``vol_range``.
        radii: Reach of each Gaussian in cells, int32 [N]. Defaults to None:
            ``ceil(largest scale * scale_multiplier / voxel_size)``, at least ``radius_min``.
        scale_multiplier: Standard deviations that the radius covers. Defaults to 3.0.
        probabilistic: Return a normalized mixture. Defaults to False.
        radius_min: Smallest radius in cells. Defaults to 1.

    A Gaussian with a scale of 0 acts on nothing.

    Returns:
        Logits [P, C]; probabilistic: logits [P, C], bin [P] and density [P]. A point outside the
        grid, or without Gaussians, gets zeros; the probabilistic logits are uniform over the
        first C - 1 classes where no Gaussian has mass.

    Raises:
        ValueError: For shapes that do not fit or a bad grid.
        TypeError: Unless all are float32 or all float64, and ``radii`` is int32.
    """
    bounds, size, shape = grid_of(vol_range, voxel_size, grid_shape)
    quats, scales = precis if isinstance(precis, tuple) else (None, None)
    matrix = None if isinstance(precis, tuple) else precis
    _check(
        points, means, precis=matrix, quats=quats, scales=scales, opacities=opacities,
        semantics=semantics, radii=radii,
    )  # fmt: skip
    # What has no extent acts on nothing; its precision is infinite or NaN.
    if scales is not None:
        acts = (scales > 0).all(-1)
        scales = torch.where(acts[:, None], scales, 1.0)
    elif matrix is not None:
        acts = matrix.isfinite().all(-1).all(-1)
        matrix = torch.where(acts[:, None, None], matrix, _identity(matrix))
    if radii is None:
        radii = _cell_radii(matrix, scales, scale_multiplier, min(size), radius_min)
    radii = torch.where(acts, radii, -1)
    if matrix is None:
        matrix = quat_scale_to_covar_preci(quats, scales, False, True)[1]
    amps = opacities.reshape(-1)
    if probabilistic:
        root = _root_det(matrix) if scales is None else 1 / scales.prod(-1)
        amps = NORMALIZER * root * amps
    run = torch.ops.mmcity.semantic_splat_fwd if _backend.use_native(means) else _reference
    logits, complement, density, _ = run(
        points, means, matrix, amps, semantics, radii, vol_range=bounds, voxel_size=size,
        grid_shape=shape, probabilistic=probabilistic,
    )  # fmt: skip
    return (logits, 1 - complement, density) if probabilistic else logits


_reference = _backend.float32_under_autocast(reference.semantic_splat)


def _identity(matrix: Tensor) -> Tensor:
    return torch.eye(3, dtype=matrix.dtype, device=matrix.device)


def _root_det(matrix: Tensor) -> Tensor:
    """Square root of the determinant of symmetric matrices, [N]."""
    a, b, c = matrix[:, 0].unbind(-1)
    _, d, e = matrix[:, 1].unbind(-1)
    f = matrix[:, 2, 2]
    det = a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d)
    return det.clamp(min=0).sqrt()


@torch.no_grad()
def _cell_radii(
    matrix: Tensor | None, scales: Tensor | None, multiplier: float, size: float, least: int
) -> Tensor:
    if scales is not None:
        largest = scales.amax(-1)
    elif len(matrix):
        largest = torch.linalg.eigvalsh(matrix)[:, 0].clamp(min=1e-30).rsqrt()
    else:
        largest = matrix.new_zeros(0)
    return (largest * multiplier / size).ceil().clamp(least, 2.0**28).to(torch.int32)


def _check(
    points: Tensor, means: Tensor, *, opacities: Tensor, radii: Tensor | None, **others
) -> None:
    _backend.check_shape("points", points, ("P", 3))
    _backend.check_shape("means", means, ("N", 3))
    n = means.shape[0]
    last = dict(precis=(3, 3), quats=(4,), scales=(3,), semantics=("C",), radii=())
    for name, tensor in {**others, "radii": radii}.items():
        if tensor is not None:
            _backend.check_shape(name, tensor, (n, *last[name]))
    if list(opacities.shape) not in ([n], [n, 1]):
        raise ValueError(f"opacities: expected shape [{n}] or [{n}, 1], got {[*opacities.shape]}")
    tensors = dict(points=points, means=means, opacities=opacities, **others)
    _backend.check_device(**tensors, radii=radii)
    if not torch.is_autocast_enabled(means.device.type):
        _backend.check_float(**tensors)
    if radii is not None:
        _backend.check_dtype("radii", radii, torch.int32)
    _backend.check_finite(**tensors)


def _fake(
    points, means, precis, amps, semantics, radii, vol_range, voxel_size, shape, probabilistic
):
    n = points.shape[0]
    logits = means.new_empty((n, semantics.shape[1]))
    return logits, *(means.new_empty(n if probabilistic else 0) for _ in range(3))


def _setup(ctx: Any, inputs: tuple, output: tuple) -> None:
    logits, complement, _, mass = output
    ctx.mark_non_differentiable(mass)
    ctx.save_for_backward(*inputs[:6], logits, complement, mass)
    ctx.settings = inputs[6:]


def _backward(ctx: Any, v_logits: Tensor, v_complement: Tensor, v_density: Tensor, _: Any):
    if ctx.needs_input_grad[0]:
        raise RuntimeError("points: expected no gradient for semantic_splat, got some: detach them")
    grads = torch.ops.mmcity.semantic_splat_bwd(
        v_logits, v_complement, v_density, *ctx.saved_tensors, *ctx.settings
    )
    return _backend.needed_gradients(ctx, None, *grads)


_backend.register_operator("semantic_splat", _fake, _backend.shapes_of(4, 8), _setup, _backward)
