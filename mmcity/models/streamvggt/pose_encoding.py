"""The nine-number camera encoding and the unprojection that goes with it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmcity.structures.geometry import (
    quat_to_rotmat,
    rotmat_to_quat,
    se3_from_rt,
    se3_inverse,
    transform_points,
)

#: Smallest field of view that still gives a finite focal length.
MIN_FOV = 1e-3


def decode_pose(
    encoding: Tensor, image_size: Sequence[int], min_fov: float = MIN_FOV
) -> tuple[Tensor, Tensor]:
    """World-to-camera matrices and intrinsics of pose encodings.

    Args:
        encoding: ``(..., 9)``: translation, quaternion (x, y, z, w; any length), vertical
            and horizontal field of view in radians.
        image_size: (H, W) in pixels.
        min_fov: Fields of view are raised to this; 0 reproduces the upstream behaviour, an
            infinite focal length for a field of view of 0. Defaults to 1e-3.

    Returns:
        ``viewmats`` ``(..., 4, 4)`` and ``Ks`` ``(..., 3, 3)``, principal point at W/2, H/2
        with pixel centres at whole numbers, as the networks count them. Cameras that leave a
        model count from corners: see :func:`shift_centres`.
    """
    height, width = image_size
    quats = encoding[..., 3:7].roll(1, -1)  # wxyz
    viewmats = se3_from_rt(quat_to_rotmat(quats), encoding[..., :3])
    fov_h, fov_w = encoding[..., 7:9].clamp_min(min_fov).unbind(-1)
    fy, fx = (height / 2) / torch.tan(fov_h / 2), (width / 2) / torch.tan(fov_w / 2)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    rows = (fx, zero, one * (width / 2), zero, fy, one * (height / 2), zero, zero, one)
    return viewmats, torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def encode_pose(viewmats: Tensor, Ks: Tensor, image_size: Sequence[int]) -> Tensor:
    """Pose encodings ``(..., 9)``; inverse of :func:`decode_pose`, quaternion with w >= 0.

    Args:
        viewmats: World to camera, ``(..., 3|4, 4)``.
        Ks: Intrinsics ``(..., 3, 3)``; the principal point is not encoded.
        image_size: (H, W) in pixels.
    """
    height, width = image_size
    quats = rotmat_to_quat(viewmats[..., :3, :3]).roll(-1, -1)  # xyzw
    fov_h = 2 * torch.atan((height / 2) / Ks[..., 1, 1])
    fov_w = 2 * torch.atan((width / 2) / Ks[..., 0, 0])
    fovs = torch.stack([fov_h, fov_w], dim=-1)
    return torch.cat([viewmats[..., :3, 3], quats, fovs], dim=-1)


def unproject_depth(depth: Tensor, viewmats: Tensor, Ks: Tensor) -> Tensor:
    """World points of z-depth maps.

    Pixel coordinates are the integer indices (no half-pixel offset), the convention the
    networks were trained with.

    Args:
        depth: ``(..., H, W)``.
        viewmats: World to camera, ``(..., 3|4, 4)``.
        Ks: ``(..., 3, 3)``.

    Returns:
        ``(..., H, W, 3)``.
    """
    height, width = depth.shape[-2:]
    v, u = torch.meshgrid(
        torch.arange(height, dtype=depth.dtype, device=depth.device),
        torch.arange(width, dtype=depth.dtype, device=depth.device),
        indexing="ij",
    )
    focal, centre = Ks.diagonal(dim1=-2, dim2=-1)[..., :2], Ks[..., :2, 2]  # (..., 2)
    x = (u - centre[..., 0, None, None]) / focal[..., 0, None, None] * depth
    y = (v - centre[..., 1, None, None]) / focal[..., 1, None, None] * depth
    points = torch.stack([x, y, depth], dim=-1).flatten(-3, -2)  # (..., H*W, 3)
    cam_to_world = se3_inverse(viewmats)
    return transform_points(cam_to_world, points).unflatten(-2, (height, width))


def shift_centres(Ks: Tensor, shift: float) -> Tensor:
    """Intrinsics with the principal point moved by ``shift`` pixels in x and y.

    The networks count pixel centres at whole numbers, the toolbox's containers at +0.5:
    add 0.5 when leaving the networks, subtract it when entering.
    """
    offset = torch.zeros_like(Ks)
    offset[..., :2, 2] = shift
    return Ks + offset
