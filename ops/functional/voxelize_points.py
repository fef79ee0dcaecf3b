"""Points to voxels: cells, fixed-size voxels, and reductions over voxels."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmcity_ops import _backend
from mmcity_ops.reference import voxelize_points as reference

REDUCTIONS = ("mean", "sum", "max")


def voxelize_dynamic(
    points: Tensor,
    voxel_size: Sequence[float] | Tensor,
    point_cloud_range: Sequence[float] | Tensor,
) -> Tensor:
    """Cell of each point, ``floor((p - min) / voxel_size)`` in the type of the points.

    Args:
        points: x, y, z in metres, then any features, [N, F], F >= 3.
        voxel_size: Edges of a voxel in x, y, z, metres.
        point_cloud_range: Lower then upper corner, 6 numbers in metres; the grid has
            ``round((max - min) / voxel_size)`` cells.

    Returns:
        Coordinates in the order z, y, x, int32 [N, 3]; -1 for points outside the range or with
        a coordinate that is not finite.

    Raises:
        ValueError: For a wrong shape or grid.
        TypeError: Unless ``points`` is float32 or float64.
    """
    size, bounds = _check_points(points, voxel_size, point_cloud_range)
    points = points.detach()
    if _backend.use_native(points):
        return torch.ops.mmcity.voxelize_dynamic(points, size, bounds)
    return reference.voxelize_dynamic(points, size, bounds)


def voxelize_hard(
    points: Tensor,
    voxel_size: Sequence[float] | Tensor,
    point_cloud_range: Sequence[float] | Tensor,
    max_points: int,
    max_voxels: int,
    deterministic: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Collect points into voxels of fixed capacity.

    Voxels stand in the order in which their first point comes; points keep their order. Points
    beyond ``max_points`` of a voxel, and those that would open a voxel beyond ``max_voxels``, are
    dropped. Differentiable with respect to the points.

    Args:
        points: x, y, z in metres, then any features, [N, F], F >= 3.
        voxel_size: Edges of a voxel in x, y, z, metres.
        point_cloud_range: Lower then upper corner, 6 numbers in metres.
        max_points: Points that a voxel holds.
        max_voxels: Voxels to return at most.
        deterministic: Kept for the signature that other libraries use; the result never depends
            on timing. Defaults to True.

    Returns:
        voxels [M, max_points, F] (unused slots 0), coordinates z, y, x int32 [M, 3], and points
        per voxel int32 [M].

    Raises:
        ValueError: For a wrong shape or grid, or a capacity below 1.
        TypeError: Unless ``points`` is float32 or float64.
    """
    size, bounds = _check_points(points, voxel_size, point_cloud_range)
    for name, value in (("max_points", max_points), ("max_voxels", max_voxels)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    args = (points.detach(), size, bounds, max_points, max_voxels)
    native = _backend.use_native(points)
    hard = torch.ops.mmcity.voxelize_hard if native else reference.voxelize_hard
    voxels, coors, num_points, point_ids = hard(*args)
    if points.requires_grad and torch.is_grad_enabled():
        voxels = reference.gather_points(points, point_ids)
    return voxels, coors, num_points


def scatter_reduce_voxels(
    feats: Tensor, coors: Tensor, reduce: str = "mean"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Reduce the features of the points of each voxel.

    Differentiable with respect to ``feats``. For "max", where several points share the maximum,
    the gradient goes to the one with the lowest index.

    Args:
        feats: Features of points, [N, C].
        coors: Voxel of each point, int32 [N, 3] or [N, 4] (batch index first); rows with a
            negative number are dropped.
        reduce: "mean", "sum" or "max". Defaults to "mean".

    Returns:
        Voxel features [M, C], voxel coordinates int32 [M, 3 or 4] in lexicographic order, voxel
        of each point int32 [N] (-1 where dropped), and points per voxel int32 [M].

    Raises:
        ValueError: For shapes that do not fit or an unknown reduction.
        TypeError: Unless ``feats`` is float32 or float64 and ``coors`` int32.
    """
    _backend.check_choice("reduce", reduce, REDUCTIONS)
    _backend.check_shape("feats", feats, ("N", "C"))
    if coors.dim() != 2 or coors.shape[1] not in (3, 4) or coors.shape[0] != feats.shape[0]:
        raise ValueError(
            f"coors: expected shape [{feats.shape[0]}, 3 or 4], got {list(coors.shape)}"
        )
    _backend.check_device(feats=feats, coors=coors)
    _backend.check_dtype("coors", coors, torch.int32)
    if not torch.is_autocast_enabled(feats.device.type):
        _backend.check_float(feats=feats)
    if _backend.use_native(feats):
        voxels, point2voxel, order, offsets = torch.ops.mmcity.group_voxels(coors)
        out = torch.ops.mmcity.scatter_reduce_voxels(feats, point2voxel, order, offsets, reduce)[0]
    else:
        voxels, point2voxel, order, offsets = reference.group_voxels(coors)
        out = _reference_reduce(feats, point2voxel, order, offsets, reduce)[0]
    return out, voxels, point2voxel, offsets.diff().to(torch.int32)


_reference_reduce = _backend.float32_under_autocast(reference.scatter_reduce_voxels)


def _check_points(
    points: Tensor,
    voxel_size: Sequence[float] | Tensor,
    point_cloud_range: Sequence[float] | Tensor,
) -> tuple[list[float], list[float]]:
    if points.dim() != 2 or points.shape[1] < 3:
        raise ValueError(f"points: expected shape [N, 3 or more], got {list(points.shape)}")
    _backend.check_float(points=points)
    size, bounds = _backend.plain_numbers(voxel_size), _backend.plain_numbers(point_cloud_range)
    if len(size) != 3 or min(size) <= 0:
        raise ValueError(f"voxel_size: expected three positive numbers, got {size}")
    if len(bounds) != 6 or any(bounds[3 + d] <= bounds[d] for d in range(3)):
        raise ValueError(
            f"point_cloud_range: expected lower then upper corner (6 numbers), got {bounds}"
        )
    return size, bounds


@_backend.on_native_load
def _register() -> None:
    @torch.library.register_fake("mmcity::voxelize_dynamic")
    def _fake_dynamic(points, voxel_size, point_cloud_range):
        return points.new_empty((points.shape[0], 3), dtype=torch.int32)

    @torch.library.register_fake("mmcity::voxelize_hard")
    def _fake_hard(points, voxel_size, point_cloud_range, max_points, max_voxels):
        m = torch.library.get_ctx().new_dynamic_size()
        return (
            points.new_empty((m, max_points, points.shape[1])),
            points.new_empty((m, 3), dtype=torch.int32),
            points.new_empty(m, dtype=torch.int32),
            points.new_empty((m, max_points), dtype=torch.int64),
        )

    @torch.library.register_fake("mmcity::group_voxels")
    def _fake_group(coors):
        ctx = torch.library.get_ctx()
        m, k = ctx.new_dynamic_size(), ctx.new_dynamic_size()
        return (
            coors.new_empty((m, coors.shape[1])),
            coors.new_empty(coors.shape[0]),
            coors.new_empty(k, dtype=torch.int64),
            coors.new_empty(m + 1, dtype=torch.int64),
        )

    @torch.library.register_fake("mmcity::scatter_reduce_voxels")
    def _fake_reduce(feats, point2voxel, order, offsets, reduce):
        m = offsets.shape[0] - 1
        argmax = feats.new_empty((m if reduce == "max" else 0, feats.shape[1]), dtype=torch.int64)
        return feats.new_empty((m, feats.shape[1])), argmax

    def _setup_reduce(ctx: Any, inputs: tuple, output: tuple) -> None:
        feats, point2voxel, _, offsets, reduce = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(point2voxel, offsets, output[1])
        ctx.reduce, ctx.n_points = reduce, feats.shape[0]

    def _backward_reduce(ctx: Any, v_out: Tensor, _: Any) -> tuple:
        point2voxel, offsets, argmax = ctx.saved_tensors
        if ctx.reduce == "max":
            v_feats = v_out.new_zeros(ctx.n_points, v_out.shape[1]).scatter(0, argmax, v_out)
            return v_feats, None, None, None, None
        if ctx.reduce == "mean":
            v_out = v_out / offsets.diff()[:, None]
        padded = torch.cat([v_out, v_out.new_zeros(1, v_out.shape[1])])  # row -1: dropped points
        return padded[point2voxel.long()], None, None, None, None

    torch.library.register_autograd(
        "mmcity::scatter_reduce_voxels", _backward_reduce, setup_context=_setup_reduce
    )
    _backend.cast_under_autocast("mmcity::scatter_reduce_voxels")
