"""Pixels to the ego frame and back, for several cameras of several samples."""

import torch
from torch import Tensor


def inverse(matrices: Tensor) -> Tensor:
    """Inverses of square matrices ``(..., n, n)``, which a GPU does not check (it would wait)."""
    return torch.linalg.inv_ex(matrices, check_errors=not matrices.is_cuda).inverse


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """``log(x / (1 - x))`` with both parts at least ``eps``."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def sine_encode(coords: Tensor, num_feats: int = 128, temperature: float = 10000.0) -> Tensor:
    """Sinusoidal encoding of normalised coordinates.

    Args:
        coords: ``(..., 2)`` x, y or ``(..., 4)`` x, y, w, h in [0, 1].
        num_feats: Values per coordinate. Defaults to 128.
        temperature: Base of the wavelengths. Defaults to 10000.

    Returns:
        ``(..., num_feats * n)`` in the order y, x(, w, h); sines on even, cosines on odd
        places.
    """
    if coords.shape[-1] not in (2, 4):
        raise ValueError(f"coords: expected a last axis of 2 or 4, got {tuple(coords.shape)}")
    exponent = 2 * torch.div(
        torch.arange(num_feats, device=coords.device), 2, rounding_mode="floor"
    )
    wavelengths = temperature ** (exponent / num_feats)
    coords = torch.cat([coords[..., :2].flip(-1), coords[..., 2:]], dim=-1)
    angles = coords[..., None] * (2 * torch.pi) / wavelengths
    encoded = torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1)
    return encoded.flatten(-3)


def pixels_to_ego(
    points: Tensor, cam2img: Tensor, cam_to_ego: Tensor, img_aug: Tensor | None = None
) -> Tensor:
    """Lift pixels with depth into the ego frame, in float32.

    Args:
        points: ``(..., Q, 3)`` pixel x, pixel y (of the augmented image), z-depth in metres.
        cam2img: ``(..., 4, 4)`` intrinsics of the original image.
        cam_to_ego: ``(..., 4, 4)``.
        img_aug: ``(..., 4, 4)`` augmentation in homogeneous pixels. Defaults to None.

    Returns:
        ``(..., Q, 3)`` metres.
    """
    with torch.autocast(points.device.type, enabled=False):
        points = points.float()
        if img_aug is not None:
            points = points - img_aug[..., None, :3, 3].float()
            points = points @ inverse(img_aug[..., :3, :3].float()).mT
        rays = torch.cat([points[..., :2] * points[..., 2:], points[..., 2:]], dim=-1)
        matrix = cam_to_ego[..., :3, :3].float() @ inverse(cam2img[..., :3, :3].float())
        return rays @ matrix.mT + cam_to_ego[..., None, :3, 3].float()


def augmented_intrinsics(cam2img: Tensor, img_aug: Tensor) -> Tensor:
    """3x3 intrinsics of the augmented image; shear and rotation of ``img_aug`` are dropped.

    Args:
        cam2img: ``(..., 4, 4)``.
        img_aug: ``(..., 4, 4)``.
    """
    intrinsics = cam2img[..., :3, :3].clone()
    intrinsics[..., :2, :2] *= img_aug[..., :2, :2]
    intrinsics[..., 0, 2] = cam2img[..., 0, 2] * img_aug[..., 0, 0] + img_aug[..., 0, 3]
    intrinsics[..., 1, 2] = cam2img[..., 1, 2] * img_aug[..., 1, 1] + img_aug[..., 1, 3]
    return intrinsics
