"""Bringing images to the sizes that the visual geometry networks accept."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmcity.utils.picture_files import as_mode

#: Longest image side the published networks were trained with.
TARGET_SIZE = 518
PATCH_SIZE = 14


def composite_on_white(image: Image.Image) -> Image.Image:
    """RGB image of 8 bits, upright; transparent parts become white."""
    if not image.has_transparency_data:
        return as_mode(image)
    image = as_mode(image, "RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return as_mode(Image.alpha_composite(white, image))


def image_to_tensor(image: Image.Image | np.ndarray) -> Tensor:
    """``(3, H, W)`` float32 in [0, 1] of an 8-bit image."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def _pad(image: Tensor, height: int, width: int, value: float = 1.0) -> Tensor:
    """Centre ``(3, h, w)`` on a plane of ``value``; the odd pixel goes right and down."""
    top, left = (height - image.shape[1]) // 2, (width - image.shape[2]) // 2
    out = image.new_full((3, height, width), value)
    out[:, top : top + image.shape[1], left : left + image.shape[2]] = image
    return out


def load_network_image(
    image: Image.Image | np.ndarray,
    mode: str = "crop",
    target_size: int = TARGET_SIZE,
    patch_size: int = PATCH_SIZE,
) -> Tensor:
    """An image as the networks' demos load it.

    Args:
        image: PIL image, or ``(H, W, 3)`` uint8 RGB.
        mode: ``'crop'``: the width becomes ``target_size``, a height above that is cut
            centrally. ``'pad'``: the longest side becomes ``target_size``, the rest of the
            square is white. Defaults to ``'crop'``.
        target_size: Defaults to 518.
        patch_size: Sides are rounded to multiples of it. Defaults to 14.

    Returns:
        ``(3, H, W)`` in [0, 1].
    """
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image = composite_on_white(image)
    width, height = image.size

    def fit(side: int, other: int) -> int:
        return max(1, round(side * (target_size / other) / patch_size)) * patch_size

    if mode == "crop":
        size = (target_size, fit(height, width))
    elif mode == "pad":
        is_wide = width >= height
        size = (target_size, fit(height, width)) if is_wide else (fit(width, height), target_size)
    else:
        raise ValueError(f"mode: expected 'crop' or 'pad', got {mode!r}")
    out = image_to_tensor(image.resize(size, Image.Resampling.BICUBIC))
    if mode == "pad":
        return _pad(out, target_size, target_size)
    if out.shape[1] > target_size:
        top = (out.shape[1] - target_size) // 2
        out = out[:, top : top + target_size]
    return out


def load_eval_image(
    image: Image.Image | np.ndarray, target_size: int = TARGET_SIZE, patch_size: int = PATCH_SIZE
) -> Tensor:
    """An image as the depth evaluations load it: long side to the target, nothing cut off.

    Args:
        image: PIL image (its EXIF rotation is applied), or ``(H, W, 3)`` uint8 RGB.
        target_size: Long side before rounding. Defaults to 518.
        patch_size: Sides are rounded down to multiples of it. Defaults to 14.

    Returns:
        ``(3, H, W)`` in [0, 1].

    Raises:
        ValueError: If the short side would have less than one patch.
    """
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image = as_mode(image)
    longest = max(image.size)
    kind = Image.Resampling.LANCZOS if longest > target_size else Image.Resampling.BICUBIC
    image = image.resize([round(side * target_size / longest) for side in image.size], kind)
    size = [2 * (2 * (side // 2) // patch_size * patch_size // 2) for side in image.size]
    if min(size) < patch_size:
        raise ValueError(
            f"expected a picture of at least {patch_size} px in both directions where the longer "
            f"has {target_size}, got {image.width}x{image.height}: pad it (--resize pad)"
        )
    return image_to_tensor(image.resize(size, Image.Resampling.LANCZOS))


def crop_around_principal_point(
    image: Image.Image,
    depth: np.ndarray | None,
    K: np.ndarray,
    size: Sequence[int],
    margin: int = 0,
) -> tuple[Image.Image, np.ndarray | None, np.ndarray]:
    """Cut, resize and cut an image so that the principal point lies in its middle.

    Args:
        image: RGB image.
        depth: ``(H, W)`` depth map of the same size, resampled by nearest neighbour; or None.
        K: ``(3, 3)`` intrinsics in pixels, pixel centres at +0.5.
        size: Target (height, width).
        margin: Pixels added to both target sides before the last cut (random crops).
            Defaults to 0.

    Returns:
        Image, depth and intrinsics at the target size.

    Raises:
        ValueError: If the principal point lies outside of the image.
    """
    height, width = size
    cx, cy = K[0, 2], K[1, 2]
    half_w, half_h = min(cx, image.width - cx), min(cy, image.height - cy)
    if half_w <= 0 or half_h <= 0:
        raise ValueError(
            f"principal point: expected one inside of the image {image.width} x {image.height}, "
            f"got ({cx:.1f}, {cy:.1f})"
        )
    left, top = round(cx - half_w), round(cy - half_h)
    right, bottom = round(cx + half_w), round(cy + half_h)
    image, depth, K = _cut(image, depth, K, left, top, right - left, bottom - top)

    scale = max((width + margin) / image.width, (height + margin) / image.height)
    new_w = max(round(image.width * scale), width)
    new_h = max(round(image.height * scale), height)
    kind = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    if depth is not None:
        rows = ((np.arange(new_h) + 0.5) * depth.shape[0] / new_h).astype(int)
        columns = ((np.arange(new_w) + 0.5) * depth.shape[1] / new_w).astype(int)
        depth = depth[rows[:, None], columns]
    K = np.diag([new_w / image.width, new_h / image.height, 1.0]) @ K
    image = image.resize((new_w, new_h), kind)
    return _cut(image, depth, K, (new_w - width) // 2, (new_h - height) // 2, width, height)


def _cut(
    image: Image.Image,
    depth: np.ndarray | None,
    K: np.ndarray,
    left: int,
    top: int,
    width: int,
    height: int,
) -> tuple[Image.Image, np.ndarray | None, np.ndarray]:
    K = np.array(K, dtype=np.float64)
    K[0, 2] -= left
    K[1, 2] -= top
    if depth is not None:
        depth = depth[top : top + height, left : left + width]
    return image.crop((left, top, left + width, top + height)), depth, K
