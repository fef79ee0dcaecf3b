"""Rotation of spherical-harmonic coefficients, for scenes that are turned as a whole."""

import functools
import math

import numpy as np
import torch
from torch import Tensor

#: Value of the constant basis function.
SH_C0 = 0.5 / math.sqrt(math.pi)


def sh_degree_of(coefficients: int) -> int:
    """Degree of a basis with so many functions: 1, 4, 9, 16, ..

    Raises:
        ValueError: If the number is not a square.
    """
    degree = math.isqrt(max(coefficients, 0)) - 1
    if degree < 0 or (degree + 1) ** 2 != coefficients:
        raise ValueError(f"expected 1, 4, 9, 16 or 25 SH coefficients, got {coefficients}")
    return degree


def _band(degree: int, directions: np.ndarray) -> np.ndarray:
    """Real SH of one degree at unit directions ``(M, 3)``, as ``(M, 2 degree + 1)``.

    Orders run from -degree to degree and carry the Condon-Shortley sign, which is the basis
    of 3D Gaussian Splatting (degree 1: -y, z, -x).
    """
    x, y, z = directions.T
    azimuth, sine = np.arctan2(y, x), np.hypot(x, y)
    columns = {}
    for order in range(degree + 1):
        # Associated Legendre values: up from P_m^m by the three-term recurrence.
        previous = np.zeros_like(z)
        current = (-sine) ** order * math.prod(range(1, 2 * order, 2))
        for step in range(order + 1, degree + 1):
            following = ((2 * step - 1) * z * current - (step + order - 1) * previous) / (
                step - order
            )
            previous, current = current, following
        factor = math.sqrt(
            (2 * degree + 1)
            / (4 * math.pi)
            * math.factorial(degree - order)
            / math.factorial(degree + order)
        )
        if order == 0:
            columns[0] = factor * current
        else:
            columns[order] = math.sqrt(2) * factor * current * np.cos(order * azimuth)
            columns[-order] = math.sqrt(2) * factor * current * np.sin(order * azimuth)
    return np.stack([columns[order] for order in range(-degree, degree + 1)], axis=-1)


@functools.lru_cache(maxsize=1)
def _sphere_samples(count: int = 128) -> np.ndarray:
    row = np.arange(count) + 0.5
    z, azimuth = 1 - 2 * row / count, row * math.pi * (1 + math.sqrt(5))
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], axis=-1)


def rotate_sh(coefficients: Tensor, rotation: Tensor) -> Tensor:
    """Coefficients of the turned function ``f'(d) = f(R^T d)``.

    The matrix of each band is the exact solution of a linear system over well-spread
    directions, in float64, so any degree works.

    Args:
        coefficients (Tensor): ``(..., K, D)`` with K = (degree + 1)^2, constant term first.
        rotation (Tensor): ``(3, 3)``.

    Returns:
        Tensor: ``(..., K, D)``.
    """
    degree = sh_degree_of(coefficients.shape[-2])
    directions = _sphere_samples()
    turned = directions @ rotation.detach().cpu().double().numpy()
    bands = [coefficients[..., :1, :]]
    for band in range(1, degree + 1):
        matrix = np.linalg.lstsq(_band(band, directions), _band(band, turned), rcond=None)[0]
        part = coefficients[..., band * band : (band + 1) ** 2, :]
        bands.append(torch.as_tensor(matrix).to(part) @ part)
    return torch.cat(bands, dim=-2)
