"""Scale and offset of monocular depth maps."""

import numpy as np
import pytest

from mmcity.datasets.depth_scale import FIT_METHODS, fit_depth_scale

SIZE = (40, 30)


def observations(seed=0):
    """Pixels, the points there at depths of 2 to 10, and their inverse depths."""
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(1, 29, (50, 2))
    depth = rng.uniform(2, 10, 50)
    return pixels, np.concatenate([pixels * depth[:, None], depth[:, None]], 1)


@pytest.mark.parametrize("method", FIT_METHODS)
@pytest.mark.parametrize("value", [0, 7, 60000])
def test_a_flat_map_has_no_scale(method, value):
    """Interpolation leaves differences of rounding, over which any scale would be huge."""
    pixels, points = observations()
    flat = np.full(SIZE[::-1], value, np.uint16)
    assert fit_depth_scale(flat, pixels, points, np.eye(4), SIZE, method) == (0.0, 0.0)


def test_a_map_of_small_floats_keeps_its_scale():
    pixels, points = observations()
    columns = np.tile(np.linspace(0, 1, SIZE[0]), (SIZE[1], 1))
    points[:, 2] = 1 / (0.1 + pixels[:, 0] / (SIZE[0] - 1))
    scale, offset = fit_depth_scale(columns, pixels, points, np.eye(4), SIZE, "lsq")
    assert scale == pytest.approx(65536, rel=1e-6) and offset == pytest.approx(0.1, abs=1e-6)
