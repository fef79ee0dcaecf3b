"""HexPlanes: the six feature planes of a 4D volume, and their square rollout map.

Plane ``ab`` is a tensor ``(B, C, a, b)``; the order of planes is always
``xy, xz, yz, tx, ty, tz`` (DynamicCity, arXiv 2410.18084, section 3.3).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

PLANES = ("xy", "xz", "yz", "tx", "ty", "tz")
#: Planes that lie transposed in the rollout map.
_TRANSPOSED = (False, False, True, True, False, False)


def plane_sizes(txyz: Sequence[int]) -> list[tuple[int, int]]:
    """Sizes ``(a, b)`` of the six planes of a latent volume of size ``(t, x, y, z)``."""
    size = dict(zip("txyz", txyz))
    return [(size[name[0]], size[name[1]]) for name in PLANES]


def check_rollout_sizes(txyz: Sequence[int], patch_size: int = 1) -> None:
    """Raise ``ValueError`` unless the planes roll out to a square of whole patches.

    Args:
        txyz: Latent sizes ``(t, x, y, z)``.
        patch_size: Edge of a patch; patches must not straddle two planes. Defaults to 1.
    """
    _, x, y, _ = txyz
    if x != y:
        raise ValueError(f"latent sizes txyz: expected x == y for padding, got {tuple(txyz)}")
    if any(size % patch_size for size in txyz):
        raise ValueError(
            f"latent sizes txyz: expected multiples of the patch {patch_size}, got {tuple(txyz)}"
        )


def rollout_size(txyz: Sequence[int]) -> int:
    """Edge ``x + t + z`` of the square rollout map."""
    t, x, _, z = txyz
    return x + t + z


def rollout_slices(txyz: Sequence[int]) -> list[tuple[slice, slice]]:
    """Rows and columns of the map that hold each plane, in plane order."""
    t, x, y, z = txyz
    first, second, third = slice(0, x), slice(x, x + t), slice(x + t, x + t + z)
    left, middle, right = slice(0, y), slice(y, y + z), slice(y + z, y + z + t)
    return [
        (first, left),
        (first, middle),
        (third, left),
        (first, right),
        (second, left),
        (second, middle),
    ]


def to_rollout(planes: Sequence[Tensor]) -> Tensor:
    """Lay six planes into one zero-padded square map.

    Args:
        planes: Six tensors ``(B, C, a, b)`` in the order of :data:`PLANES`.

    Returns:
        Map ``(B, C, x+t+z, y+z+t)``.
    """
    if len(planes) != len(PLANES):
        raise ValueError(f"expected the six planes {PLANES}, got {len(planes)} tensors")
    x, y = planes[0].shape[-2:]
    t, z = planes[5].shape[-2:]
    txyz = (t, x, y, z)
    check_rollout_sizes(txyz)
    size = rollout_size(txyz)
    out = planes[0].new_zeros(*planes[0].shape[:2], size, size)
    for plane, (rows, cols), transposed in zip(planes, rollout_slices(txyz), _TRANSPOSED):
        out[..., rows, cols] = plane.transpose(-1, -2) if transposed else plane
    return out


def from_rollout(rollout: Tensor, txyz: Sequence[int]) -> list[Tensor]:
    """Cut a rollout map ``(B, C, S, S)`` back into six planes; inverse of :func:`to_rollout`."""
    check_rollout_sizes(txyz)
    size = rollout_size(txyz)
    if tuple(rollout.shape[-2:]) != (size, size):
        raise ValueError(
            f"rollout: expected {size}x{size} for latent sizes txyz = {tuple(txyz)}, got "
            f"{tuple(rollout.shape[-2:])}"
        )
    planes = []
    for (rows, cols), transposed in zip(rollout_slices(txyz), _TRANSPOSED):
        plane = rollout[..., rows, cols]
        planes.append(plane.transpose(-1, -2) if transposed else plane)
    return planes


def rollout_mask(txyz: Sequence[int], patch_size: int = 1) -> Tensor:
    """Mask of the cells with planes: float ``(1, 1, S, S)``, or per patch ``(1, 1, S/p, S/p)``."""
    check_rollout_sizes(txyz, patch_size)
    sizes = [size // patch_size for size in txyz]
    return to_rollout([torch.ones(1, 1, a, b) for a, b in plane_sizes(sizes)])
