"""Brightness of colours: sRGB, as pictures and splats hold it, and linear, as glTF wants it."""

import numpy as np


def srgb_to_linear(values: np.ndarray) -> np.ndarray:
    """Linear values in [0, 1] of sRGB-coded ones (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(values: np.ndarray) -> np.ndarray:
    """sRGB-coded values in [0, 1] of linear ones."""
    high = 1.055 * np.maximum(values, 0) ** (1 / 2.4) - 0.055
    return np.where(values <= 0.0031308, values * 12.92, high)
