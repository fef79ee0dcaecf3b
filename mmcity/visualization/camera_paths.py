"""Paths for a virtual camera."""

import torch

from mmcity.structures import Cameras
from mmcity.structures.geometry import quat_to_rotmat, rotmat_to_quat, se3_from_rt, se3_inverse


def fly_through(cameras: Cameras, n_frames: int = 120, smoothness: float = 1.5) -> Cameras:
    """A smooth path along given cameras, in their order.

    Each pose is a mean of the given ones, weighted by a Gaussian of their distance along the
    order; so the path stays where the scene was seen and shakes less than the capture did.

    Args:
        cameras: At least one camera; the first one gives intrinsics and size.
        n_frames: Number of poses. Defaults to 120.
        smoothness: Standard deviation of the weights, in given cameras. Defaults to 1.5.

    Returns:
        ``n_frames`` cameras.
    """
    poses = cameras.cam_to_world.double()  # (C, 4, 4)
    count = len(cameras)
    moments = torch.linspace(0, count - 1, n_frames, dtype=torch.float64, device=poses.device)
    order = torch.arange(count, dtype=torch.float64, device=poses.device)
    weights = torch.exp(-0.5 * ((moments[:, None] - order) / smoothness) ** 2)  # (F, C)
    weights = weights / weights.sum(1, keepdim=True)
    centres = weights @ poses[:, :3, 3]
    quats = rotmat_to_quat(poses[:, :3, :3])
    # The mean rotation is the main eigenvector of sum w q q^T (Markley 2007): no sign trouble.
    scatter = torch.einsum("fc,ci,cj->fij", weights, quats, quats)
    mean = torch.linalg.eigh(scatter).eigenvectors[..., -1]
    viewmats = se3_inverse(se3_from_rt(quat_to_rotmat(mean), centres)).to(cameras.viewmats)
    return Cameras(
        cameras.Ks[:1].expand(n_frames, 3, 3),
        viewmats,
        int(cameras.widths[0]),
        int(cameras.heights[0]),
        camera_model=cameras.camera_model,
    )
