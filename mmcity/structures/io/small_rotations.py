"""Rotations as the three smaller parts of a quaternion, in so many steps each."""

import numpy as np

#: Parts that differ by fewer steps than these may change places by rounding.
_NEAR = 8
#: Squared error of what is rounded to single precision only.
_EXACT = 1e-11


def pack_rotations(quats: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """A part of quaternions that is left out, and codes of the others.

    It is the largest, or one near to it that loses nothing: so what is unpacked and packed again
    has the same codes, though rounding may have made another part the largest.

    Args:
        quats: ``(N, 4)`` wxyz of any length above 0.
        steps: Largest code: a part p has the code of ``steps (p / sqrt 2 + 1 / 2)``, rounded.

    Returns:
        tuple: ``(N,)`` index of the part that is left out, and ``(N, 3)`` codes of the others
        in the order wxyz, int64.
    """
    quats = quats.astype(np.float64)
    quats = quats / np.linalg.norm(quats, axis=1, keepdims=True)
    sizes = np.abs(quats)
    left = sizes.argmax(1)
    codes, errors = _packed(quats, left, steps)
    near = sizes > sizes.max(1, keepdims=True) - _NEAR / steps
    for part in range(4):
        (rows,) = np.nonzero(near[:, part] & (left != part) & (errors > _EXACT))
        others, other_errors = _packed(quats[rows], np.full(len(rows), part), steps)
        exact = other_errors < _EXACT
        rows = rows[exact]
        left[rows], codes[rows], errors[rows] = part, others[exact], other_errors[exact]
    return left, codes


def unpack_rotations(left: np.ndarray, codes: np.ndarray, steps: int) -> np.ndarray:
    """Quaternions ``(N, 4)`` float32 wxyz of :func:`pack_rotations`."""
    others = (codes / np.float32(steps) - np.float32(0.5)) * np.float32(2**0.5)
    others = others.astype(np.float32)
    quats = np.empty((len(codes), 4), np.float32)
    quats[_others(left)] = others.reshape(-1)
    rest = np.sqrt(np.clip(1 - (others**2).sum(1), 0, None))
    quats[np.arange(len(quats)), left] = rest
    return quats


def _packed(quats: np.ndarray, left: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes of all parts but the one left out, and the squared error that they make."""
    sign = np.where(quats[np.arange(len(quats)), left] < 0, -1.0, 1.0)
    quats = quats * sign[:, None]
    parts = quats[_others(left)].reshape(-1, 3)
    codes = np.floor((parts / 2**0.5 + 0.5) * steps + 0.5).astype(np.int64).clip(0, steps)
    return codes, ((unpack_rotations(left, codes, steps) - quats) ** 2).sum(1)


def _others(left: np.ndarray) -> np.ndarray:
    return np.arange(4) != left[:, None]
