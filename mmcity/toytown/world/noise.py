"""Band-limited building blocks of the procedural textures.

All functions work on float32 arrays of equal length and take the footprint of the pixel
on the surface in the unit of the coordinates, so that detail finer than a pixel fades to
its mean instead of aliasing.
"""

from collections.abc import Iterator

import numpy as np

_TABLE = np.random.Generator(np.random.PCG64(20240607)).random(1 << 16).astype(np.float32)
_PRIME_U = np.uint32(0x9E3779B1)
_PRIME_V = np.uint32(0x85EBCA77)
_PRIME_W = np.uint32(0xC2B2AE3D)
_SHIFT = np.uint32(16)


def _lattice(u: np.ndarray, v: np.ndarray, seed: np.ndarray | int) -> np.ndarray:
    key = u.astype(np.int32).view(np.uint32) * _PRIME_U
    key += v.astype(np.int32).view(np.uint32) * _PRIME_V
    key += np.asarray(seed, dtype=np.uint32)
    return key


def cell_hash(u: np.ndarray, v: np.ndarray, seed: np.ndarray | int) -> np.ndarray:
    """Random number in [0, 1) of the integer cell that holds (u, v).

    Args:
        u: (N,) coordinate; its floor names the cell.
        v: (N,) coordinate.
        seed: Scalar or (N,) uint32, decorrelates instances.
    """
    key = _lattice(np.floor(u), np.floor(v), seed)
    key ^= key >> np.uint32(13)
    key *= np.uint32(0xC2B2AE35)
    return _TABLE[key >> _SHIFT]


def value_noise(u: np.ndarray, v: np.ndarray, seed: np.ndarray | int) -> np.ndarray:
    """Smooth value noise in [0, 1] with one lattice point per unit, (N,) float32."""
    cell_u, cell_v = np.floor(u), np.floor(v)
    key = _lattice(cell_u, cell_v, seed)
    fu, fv = u - cell_u, v - cell_v
    fu = fu * fu * (3.0 - 2.0 * fu)
    fv = fv * fv * (3.0 - 2.0 * fv)
    low = _TABLE[key >> _SHIFT]
    key += _PRIME_U
    low += (_TABLE[key >> _SHIFT] - low) * fu
    key += _PRIME_V
    high = _TABLE[key >> _SHIFT]
    key -= _PRIME_U
    corner = _TABLE[key >> _SHIFT]
    high = corner + (high - corner) * fu
    return low + (high - low) * fv


def _octaves(
    footprint: np.ndarray, seed: np.ndarray | int, frequency: float, octaves: int, gain: float
) -> Iterator[tuple[np.float32, np.ndarray, np.ndarray]]:
    """Frequency, key and weight of each octave that is not below the footprint."""
    amplitude = np.float32(1.0)
    for octave in range(octaves):
        f = np.float32(frequency * 2**octave)
        weight = np.clip(2.0 - (2.0 * f) * footprint, 0.0, 1.0)
        if not weight.any():
            return
        yield f, np.asarray(seed, dtype=np.uint32) + np.uint32(7919 * octave), amplitude * weight
        amplitude *= np.float32(gain)


def fbm(
    u: np.ndarray,
    v: np.ndarray,
    footprint: np.ndarray,
    seed: np.ndarray | int,
    frequency: float,
    octaves: int = 3,
    gain: float = 0.5,
) -> np.ndarray:
    """Fractal sum of value noise around zero, each octave faded out at its band limit.

    Args:
        u: (N,) metres.
        v: (N,) metres.
        footprint: (N,) metres on the surface that a pixel covers.
        seed: Scalar or (N,) uint32.
        frequency: Lattice points per metre of the first octave.
        octaves: Number of octaves, each doubles the frequency. Defaults to 3.
        gain: Amplitude of an octave relative to the one before. Defaults to 0.5.

    Returns:
        np.ndarray: (N,) float32, in about [-1, 1] for gain 0.5.
    """
    total = np.zeros_like(u)
    for f, key, weight in _octaves(footprint, seed, frequency, octaves, gain):
        total += weight * (2.0 * value_noise(u * f, v * f, key) - 1.0)
    return total


def fbm3(
    p: np.ndarray,
    footprint: np.ndarray,
    seed: np.ndarray | int,
    frequency: float,
    octaves: int = 3,
    gain: float = 0.5,
) -> np.ndarray:
    """As :func:`fbm` for points (N, 3) of a solid."""
    total = np.zeros(len(p), dtype=np.float32)
    for f, key, weight in _octaves(footprint, seed, frequency, octaves, gain):
        z = p[:, 2] * f
        layer = np.floor(z)
        fz = z - layer
        fz = fz * fz * (3.0 - 2.0 * fz)
        key = key + layer.astype(np.int32).view(np.uint32) * _PRIME_W
        low = value_noise(p[:, 0] * f, p[:, 1] * f, key)
        high = value_noise(p[:, 0] * f, p[:, 1] * f, key + _PRIME_W)
        total += weight * (2.0 * (low + (high - low) * fz) - 1.0)
    return total


def pulse(
    x: np.ndarray, period: np.ndarray | float, width: np.ndarray | float, footprint: np.ndarray
) -> np.ndarray:
    """Box-filtered pulse train: the share of the footprint inside [k period, k period + width].

    The integral of a pulse train is closed form, so the filter is exact.

    Args:
        x: (N,) coordinate.
        period: Length of one repetition.
        width: Length of the pulse at the start of each repetition.
        footprint: (N,) filter width; values are floored to avoid a division by zero.
    """
    width = np.float32(width) if np.isscalar(width) else width
    half = np.maximum(footprint, 1e-4) * np.float32(0.5)

    def integral(y: np.ndarray) -> np.ndarray:
        n = np.floor(y / period)
        return n * width + np.minimum(y - n * period, width)

    return np.clip((integral(x + half) - integral(x - half)) / (2.0 * half), 0.0, 1.0)


def ridge(x: np.ndarray, low: np.ndarray, high: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Box-filtered indicator of ``low <= x < high``, (N,) in [0, 1]."""
    width = np.maximum(footprint, 1e-4)
    inside = np.minimum(x + 0.5 * width, high) - np.maximum(x - 0.5 * width, low)
    return np.clip(inside / width, 0.0, 1.0)
