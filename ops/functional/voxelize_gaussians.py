"""Density and features of Gaussians on a voxel grid."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmcity_ops import _backend
from mmcity_ops.functional.covariance import quat_scale_to_covar_preci
from mmcity_ops.reference import voxelize_gaussians as reference

ROUNDING = 1e-4  # share of a voxel by which float32 bounds may fall short of a whole number


def grid_of(
    vol_range: Sequence[float] | Tensor,
    voxel_size: float | Sequence[float] | Tensor,
    grid_shape: Sequence[int] | None,
) -> tuple[list[float], list[float], list[int]]:
    """Bounds (6), voxel size (3) and shape (3) as python numbers; ValueError for a bad grid."""
    bounds, size = _backend.plain_numbers(vol_range), _backend.plain_numbers(voxel_size)
    if len(bounds) != 6:
        raise ValueError(f"vol_range: expected 6 numbers (lower, upper corner), got {len(bounds)}")
    if len(size) not in (1, 3) or min(size) <= 0:
        raise ValueError(f"voxel_size: expected one or three positive numbers, got {size}")
    size = size * 3 if len(size) == 1 else size
    if grid_shape is None:
        shape = [int((bounds[3 + d] - bounds[d]) / size[d] + ROUNDING) for d in range(3)]
    else:
        shape = [int(v) for v in grid_shape]
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(
            f"grid_shape: expected three sizes of at least 1, got {shape} from vol_range "
            f"{bounds} and voxel_size {size}"
        )
    return bounds, size, shape


def gaussians_to_voxels(
    means: Tensor,
    opacities: Tensor,
    features: Tensor | None = None,
    *,
    covars: Tensor | None = None,
    quats: Tensor | None = None,
    scales: Tensor | None = None,
    vol_range: Sequence[float] | Tensor,
    voxel_size: float | Sequence[float] | Tensor,
    grid_shape: Sequence[int] | None = None,
    extent: float = 3.0,
    eps: float = 1e-6,
    normalize: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Sum Gaussians over voxel centres.

    Each Gaussian acts on the voxels of its box ``mean +- extent * sigma``:
    ``w = opacity * exp(-0.5 d^T Sigma^-1 d)``, ``density = sum w``,
    ``feature = sum w f / max(density, eps)`` (GaussTR, section on voxelization). Differentiable
    with respect to means, opacities, features and covariances (or quats and scales).

    Args:
        means: Centres in metres, [..., N, 3].
        opacities: [..., N] or [..., N, 1].
        features: [..., N, C]. Defaults to None, density only.
        covars: Covariances, [..., N, 3, 3]. Give these, or ``quats`` and ``scales``.
        quats: Rotations (wxyz, any length), [..., N, 4].
        scales: Standard deviations in metres, [..., N, 3].
        vol_range: Lower then upper corner of the volume, 6 numbers in metres.
        voxel_size: Edge of a voxel in metres, one number or three.
        grid_shape: Voxels per axis. Defaults to None, what fits into ``vol_range``.
        extent: Half size of the box in standard deviations. Defaults to 3.0.
        eps: Smallest divisor of the features. Defaults to 1e-6.
        normalize: Divide the features by the density. Defaults to True.

    Returns:
        Density [..., X, Y, Z, 1] and features [..., X, Y, Z, C] (None without ``features``).

    Raises:
        ValueError: For shapes that do not fit, a bad grid, or both or none of ``covars`` and
            ``quats`` with ``scales``.
        TypeError: Unless all are float32 or all float64.
    """
    bounds, size, shape = grid_of(vol_range, voxel_size, grid_shape)
    lead, n = _check(means, opacities, features=features, covars=covars, quats=quats, scales=scales)
    if covars is None:
        covars = quat_scale_to_covar_preci(quats, scales, True, False)[0]
    flat_features = means.new_zeros(*lead, n, 0) if features is None else features
    batch = math.prod(lead)
    run = torch.ops.mmcity.gaussians_to_voxels_fwd if _backend.use_native(means) else _reference
    density, out = run(
        means.reshape(batch, n, 3), covars.reshape(batch, n, 3, 3), opacities.reshape(batch, n),
        flat_features.reshape(batch, n, flat_features.shape[-1]), vol_range=bounds,
        voxel_size=size, grid_shape=shape, extent=float(extent), eps=float(eps),
        normalize=normalize,
    )  # fmt: skip
    density = density.reshape(*lead, *shape, 1)
    return density, None if features is None else out.reshape(*lead, *shape, features.shape[-1])


_reference = _backend.float32_under_autocast(reference.gaussians_to_voxels)


def _check(
    means: Tensor, opacities: Tensor, **others: Tensor | None
) -> tuple[tuple[int, ...], int]:
    if means.dim() < 2:
        raise ValueError(f"means: expected shape [..., N, 3], got {list(means.shape)}")
    _backend.check_last("means", means, 3)
    *lead, n, _ = means.shape
    if list(opacities.shape) not in ([*lead, n], [*lead, n, 1]):
        raise ValueError(
            f"opacities: expected shape {[*lead, n]} or {[*lead, n, 1]}, "
            f"got {list(opacities.shape)}"
        )
    given = {name for name in ("covars", "quats", "scales") if others[name] is not None}
    if given not in ({"covars"}, {"quats", "scales"}):
        raise ValueError(
            f"covars, quats, scales: expected covars, or quats and scales, got {sorted(given)}"
        )
    last = dict(covars=(3, 3), quats=(4,), scales=(3,), features=("C",))
    for name, tensor in others.items():
        if tensor is not None:
            _backend.check_shape(name, tensor, (*lead, n, *last[name]))
    tensors = dict(means=means, opacities=opacities, **others)
    _backend.check_device(**tensors)
    if not torch.is_autocast_enabled(means.device.type):
        _backend.check_float(**tensors)
    _backend.check_finite(**tensors)
    return tuple(lead), n


def _fake(means, covars, opacities, features, vol_range, voxel_size, grid_shape, *others):
    density = means.new_empty((means.shape[0], *grid_shape))
    return density, means.new_empty((means.shape[0], *grid_shape, features.shape[2]))


def _setup(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:4], *output)
    ctx.settings = inputs[4:]


def _backward(ctx: Any, v_density: Tensor, v_out: Tensor) -> tuple:
    grads = torch.ops.mmcity.gaussians_to_voxels_bwd(
        v_density, v_out, *ctx.saved_tensors, *ctx.settings
    )
    return _backend.needed_gradients(ctx, *grads)


_backend.register_operator(
    "gaussians_to_voxels", _fake, _backend.shapes_of(2, 6), _setup, _backward
)
