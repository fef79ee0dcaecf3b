"""Offset of scenes that lie far from the origin."""

import math

import numpy as np

#: Multiple of a scene's size beyond which it lies far from the origin: there, single precision
#: resolves no more than a 250,000th of it.
FAR = 30.0
#: Share of the cameras that the size of a scene holds, so that a lost one does not set it.
_MOST = 0.9


def world_offset(centers: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, float]:
    """Part of a scene's coordinates to subtract, so that single precision serves it.

    A scene that lies farther than :data:`FAR` times its size from the origin (in UTM, ECEF and
    other coordinates of the earth) is moved by the median of its cameras, rounded to a power of
    ten about its size; others stay where they are. Its size is the radius that holds nine tenths
    of the cameras, or half of the points where that is more.

    Args:
        centers (np.ndarray): ``(N, 3)`` float64 of all cameras, at least one.
        points (np.ndarray): ``(P, 3)`` float64.

    Returns:
        tuple[np.ndarray, float]: ``(3,)`` float64, zero for a scene near the origin, and how many
        sizes away from the origin the scene lies.
    """
    middle = np.median(centers, axis=0)
    size = float(np.quantile(np.linalg.norm(centers - middle, axis=1), _MOST))
    if len(points):
        size = max(size, float(np.median(np.linalg.norm(points - middle, axis=1))))
    # One camera without points has no size; then a world unit stands in.
    size = size or 1.0
    away = float(np.linalg.norm(middle)) / size
    if not math.isfinite(away) or away <= FAR:
        return np.zeros(3), away
    step = 10.0 ** math.floor(math.log10(size))
    return np.round(middle / step) * step, away
