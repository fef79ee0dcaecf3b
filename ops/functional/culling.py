"""Culling of points outside a camera's view, and selection of levels of detail."""

import torch
from torch import Tensor

from mmcity_ops import _backend as backend
from mmcity_ops.functional.projection import check_cameras
from mmcity_ops.reference import culling as reference
from mmcity_ops.reference.culling import LOD_MODES

OPS = torch.ops.mmcity


def frustum_cull(
    points: Tensor,  # [N, 3]
    radii: Tensor | None,  # [N]
    viewmats: Tensor,  # [C, 4, 4]
    Ks: Tensor,  # [C, 3, 3]
    width: int,
    height: int,
    near: float,
    far: float,
    margin: float = 0.0,
) -> Tensor:
    """Spheres (or points) against the six planes of each camera's frustum.

    Args:
        points: Centres [N, 3] in the world, metres.
        radii: Sphere radii [N], metres. None: the projected centre must fall into the image,
            near < z < far.
        viewmats: World-to-camera matrices [C, 4, 4].
        Ks: Intrinsics [C, 3, 3], pixels.
        width: Image width in pixels.
        height: Image height in pixels.
        near: Near plane, metres.
        far: Far plane, metres.
        margin: Added to the radii, metres. Defaults to 0.

    Returns:
        Bool [C, N]; not differentiable.

    Raises:
        ValueError: If a shape does not fit.
        TypeError: If a dtype is not float32 or float64, or they differ.
        RuntimeError: If the tensors are on different devices.
    """
    backend.check_shape("points", points, ("N", 3))
    if radii is not None:
        backend.check_shape("radii", radii, (points.shape[0],))
    check_cameras((), viewmats, Ks)
    floats = dict(points=points, radii=radii, viewmats=viewmats, Ks=Ks)
    backend.check_float(**floats)
    backend.check_device(**floats)
    with torch.no_grad():
        cull = OPS.frustum_cull if backend.use_native(points) else reference.frustum_cull
        limits = dict(near=float(near), far=float(far), margin=float(margin))
        return cull(points, radii, viewmats, Ks, width=width, height=height, **limits)


def select_lod(
    anchors: Tensor,  # [N, 3]
    levels_of: Tensor,  # [N]
    extra_level: Tensor | None,  # [N]
    cam_centers: Tensor,  # [C, 3]
    *,
    voxel_size: float,
    fork: int,
    n_levels: int,
    standard_dist: float,
    resolution_scale: float = 1.0,
    mode: str = "floor",
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Anchors of an octree whose level is coarse enough for their distance to each camera.

    With a the centre of the anchor's voxel, the wanted level is log_fork(standard_dist /
    (|a - camera| * resolution_scale)) + extra_level; an anchor stays where its own level is not
    finer than that.

    Args:
        anchors: Anchor positions [N, 3], metres.
        levels_of: Level of each anchor [N], integer, 0 is coarsest.
        extra_level: Offset of the wanted level [N], or None.
        cam_centers: Camera positions [C, 3], metres.
        voxel_size: Edge of a voxel at level 0, metres.
        fork: Ratio of edges between levels.
        n_levels: Number of levels.
        standard_dist: Distance at which level 0 suffices, metres.
        resolution_scale: Factor on distances. Defaults to 1.
        mode: ``floor | round | ceil`` (round: half to even) of the wanted level, or
            ``progressive``, which also gives blending ratios. Defaults to ``floor``.

    Returns:
        Mask bool [C, N]; for ``progressive`` also the ratio in [0, 1) and whether the anchor is
        on the level in transition, both [C, N], else None. Not differentiable.

    Raises:
        ValueError: If a shape or the mode does not fit.
        TypeError: If a dtype does not fit.
        RuntimeError: If the tensors are on different devices.
    """
    backend.check_shape("anchors", anchors, ("N", 3))
    count = anchors.shape[0]
    backend.check_shape("levels_of", levels_of, (count,))
    if extra_level is not None:
        backend.check_shape("extra_level", extra_level, (count,))
    backend.check_shape("cam_centers", cam_centers, ("C", 3))
    backend.check_float(anchors=anchors, extra_level=extra_level, cam_centers=cam_centers)
    if levels_of.is_floating_point() or levels_of.dtype == torch.bool:
        raise TypeError(f"levels_of: expected an integer type, got {levels_of.dtype}")
    backend.check_device(
        anchors=anchors, levels_of=levels_of, extra_level=extra_level, cam_centers=cam_centers
    )
    backend.check_choice("mode", mode, LOD_MODES)
    if fork < 2 or n_levels < 1:
        raise ValueError(f"expected fork >= 2 and n_levels >= 1, got {fork} and {n_levels}")
    tensors = (anchors, levels_of.to(torch.int32), extra_level, cam_centers)
    numbers = dict(
        voxel_size=float(voxel_size), fork=int(fork), n_levels=int(n_levels),
        standard_dist=float(standard_dist), resolution_scale=float(resolution_scale),
    )  # fmt: skip
    with torch.no_grad():
        if not backend.use_native(anchors):
            return reference.select_lod(*tensors, mode=mode, **numbers)
        mask, *others = OPS.select_lod(*tensors, mode=LOD_MODES.index(mode), **numbers)
    return mask, *(others if mode == "progressive" else (None, None))


def _fake_cull(points, radii, viewmats, Ks, width, height, near, far, margin):
    return points.new_empty((viewmats.shape[0], points.shape[0]), dtype=torch.bool)


def _fake_lod(
    anchors, levels, extra_level, cam_centers, voxel_size, fork, n_levels, standard_dist,
    resolution_scale, mode,
):  # fmt: skip
    shape = (cam_centers.shape[0], anchors.shape[0])
    extra = shape if LOD_MODES[mode] == "progressive" else (0,)
    return (
        anchors.new_empty(shape, dtype=torch.bool),
        anchors.new_empty(extra),
        anchors.new_empty(extra, dtype=torch.bool),
    )


@backend.on_native_load
def _register() -> None:
    torch.library.register_fake("mmcity::frustum_cull", _fake_cull)
    torch.library.register_fake("mmcity::select_lod", _fake_lod)
