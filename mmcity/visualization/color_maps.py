"""Pictures of depth, normals, errors and masks."""

import cv2
import numpy as np


def to_uint8(image) -> np.ndarray:
    """An 8-bit picture (H, W, 3) from a float or 8-bit image, (3, H, W) or (H, W, 3).

    Args:
        image: Array or tensor; floats are clipped to [0, 1].

    Raises:
        ValueError: If it is not a colour image.
    """
    array = _array(image)
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"expected an image (3, H, W) or (H, W, 3), got {array.shape}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    return np.ascontiguousarray((np.clip(array, 0, 1) * 255).round().astype(np.uint8))


def colorize_depth(depth, valid=None, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Turbo colours of inverse depth: near is red, far is blue, invalid is black.

    Args:
        depth: (H, W) z-depth.
        valid: (H, W) bool. Defaults to finite depths above 0.
        limits: Nearest and farthest depth of the scale. Defaults to the 2nd and 98th
            percentile of this picture.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    depth = _array(depth).astype(np.float64)
    usable = np.isfinite(depth) & (depth > 0)
    if valid is not None:
        usable &= _array(valid).astype(bool)
    if not usable.any():
        return np.zeros((*depth.shape, 3), np.uint8)
    near, far = limits or np.percentile(depth[usable], [2, 98])
    inverse = np.zeros_like(depth)
    inverse[usable] = 1 / depth[usable]
    span = max(1 / near - 1 / far, 1e-12)
    return _turbo((inverse - 1 / far) / span, usable)


def colorize_normals(normals, valid=None) -> np.ndarray:
    """Normals as colours: x, y, z from -1..1 to red, green, blue.

    In camera axes (z forward) a surface that faces the camera is (0.5, 0.5, 0); it is
    shown with z flipped, so that it becomes the usual light blue.

    Args:
        normals: (3, H, W) or (H, W, 3) unit vectors in camera axes.
        valid: (H, W) bool, others become black. Defaults to vectors longer than 0.5.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    normals = _array(normals).astype(np.float64)
    if normals.shape[0] == 3 and normals.shape[-1] != 3:
        normals = normals.transpose(1, 2, 0)
    usable = np.linalg.norm(normals, axis=-1) > 0.5
    if valid is not None:
        usable &= _array(valid).astype(bool)
    colors = (normals * [1, -1, -1] + 1) / 2 * usable[..., None]
    return to_uint8(colors)


def colorize_error(prediction, target, maximum: float = 0.2) -> np.ndarray:
    """Turbo colours of the mean absolute difference of two images: blue is 0.

    Args:
        prediction: (3, H, W) or (H, W, 3) in [0, 1].
        target: Same.
        maximum: Error of the last colour. Defaults to 0.2.
    """
    difference = to_uint8(prediction).astype(np.float64) - to_uint8(target).astype(np.float64)
    return _turbo(np.abs(difference).mean(-1) / 255 / maximum)


def _turbo(values: np.ndarray, usable: np.ndarray | None = None) -> np.ndarray:
    indices = (np.clip(np.nan_to_num(values), 0, 1) * 255).round().astype(np.uint8)
    colors = cv2.applyColorMap(indices, cv2.COLORMAP_TURBO)[..., ::-1]
    if usable is not None:
        colors = colors * usable[..., None]
    return np.ascontiguousarray(colors)


def _array(value) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)
