"""Plain pictures of voxel grids: from above, and at an angle from behind."""

from collections.abc import Sequence

import numpy as np

from .palettes import UNIFIED_PALETTE

_BACKGROUND = 255
#: Voxels of the oblique view that are painted in one go.
_PAINTED_AT_ONCE = 20000
#: Shade of the top, left and right faces of a voxel in the oblique view.
_FACE_SHADES = (1.0, 0.78, 0.6)


def _colors(voxels: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    colors = np.asarray(palette, dtype=np.float32)
    if voxels.ndim != 3:
        raise ValueError(f"voxels: expected (X, Y, Z), got {voxels.shape}")
    if voxels.size and int(voxels.max()) >= len(colors):
        raise ValueError(f"labels: expected below {len(colors)} colours, got {int(voxels.max())}")
    return colors


def render_birds_eye(
    voxels: np.ndarray,
    palette: Sequence[Sequence[int]] = UNIFIED_PALETTE,
    free_class: int = 0,
    scale: int = 4,
) -> np.ndarray:
    """Colour of the highest voxel of each column, brighter with height.

    Args:
        voxels: Labels ``(X, Y, Z)``.
        palette: RGB per label. Defaults to the unified classes'.
        free_class: Label of empty voxels. Defaults to 0.
        scale: Pixels per voxel. Defaults to 4.

    Returns:
        uint8 ``(X * scale, Y * scale, 3)``, x up and y left as seen from above.
    """
    colors = _colors(voxels, palette)
    depth = voxels.shape[2]
    occupied = voxels != free_class
    top = depth - 1 - occupied[:, :, ::-1].argmax(axis=2)
    labels = np.take_along_axis(voxels, top[..., None], axis=2)[..., 0]
    brightness = 0.55 + 0.45 * top / max(depth - 1, 1)
    image = colors[labels] * brightness[..., None]
    image[~occupied.any(axis=2)] = _BACKGROUND
    image = image[::-1, ::-1].round().astype(np.uint8)
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def render_oblique(
    voxels: np.ndarray,
    palette: Sequence[Sequence[int]] = UNIFIED_PALETTE,
    free_class: int = 0,
    scale: int = 4,
) -> np.ndarray:
    """Dimetric view from behind and above with shaded faces, painted back to front.

    Args:
        voxels, palette, free_class: As in :func:`render_birds_eye`.
        scale: Half the width of a voxel in pixels. Defaults to 4.

    Returns:
        uint8 ``(H, W, 3)``.
    """
    colors = _colors(voxels, palette)
    size_x, size_y, size_z = voxels.shape
    half, quarter, rise = scale, max(scale // 2, 1), scale
    height = (size_x + size_y) * quarter + size_z * rise + 2 * quarter
    image = np.full((height, (size_x + size_y) * half, 3), _BACKGROUND, dtype=np.uint8)
    occupied = voxels != free_class
    # A voxel whose three visible faces are covered cannot be seen.
    covered = np.zeros_like(occupied)
    covered[1:, 1:, :-1] = occupied[:-1, 1:, :-1] & occupied[1:, :-1, :-1] & occupied[1:, 1:, 1:]
    x, y, z = np.nonzero(occupied & ~covered)
    order = np.argsort(z - x - y, kind="stable")
    top = _diamond(half, quarter)
    left = _side(half, quarter, rise, left=True)
    right = _side(half, quarter, rise, left=False)
    # Of pixels written twice the later, nearer voxel stays.
    x, y, z = x[order], y[order], z[order]
    row = (size_x - 1 - x + size_y - 1 - y) * quarter + (size_z - 1 - z) * rise
    col = (x - y + size_y - 1) * half
    faces = (top, left, right)
    pixels = np.concatenate([r * image.shape[1] + c for r, c in faces])
    shades = np.repeat(_FACE_SHADES, [len(r) for r, _ in faces])
    corner = row * image.shape[1] + col
    color = colors[voxels[x, y, z]]
    flat = image.reshape(-1, 3)
    for first in range(0, len(x), _PAINTED_AT_ONCE):
        part = slice(first, first + _PAINTED_AT_ONCE)
        target = (corner[part, None] + pixels).reshape(-1)
        # One writer for each pixel: numpy does not promise which of several wins.
        last = np.full(len(flat), -1, dtype=np.int64)
        np.maximum.at(last, target, np.arange(len(target)))
        hit = np.flatnonzero(last >= 0)
        voxel, pixel = np.divmod(last[hit], len(pixels))
        flat[hit] = (color[part][voxel] * shades[pixel, None]).astype(np.uint8)
    return image


def _diamond(half: int, quarter: int) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = np.mgrid[0 : 2 * quarter, 0 : 2 * half]
    inside = np.abs((cols + 0.5) / half - 1) + np.abs((rows + 0.5) / quarter - 1) <= 1
    return rows[inside], cols[inside]


def _side(half: int, quarter: int, rise: int, left: bool) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = np.mgrid[0 : 2 * quarter + rise, 0:half]
    edge = quarter + (cols + 0.5) / half * quarter
    inside = (rows + 0.5 >= edge) & (rows + 0.5 < edge + rise)
    rows, cols = rows[inside], cols[inside]
    return rows, cols if left else 2 * half - 1 - cols
