"""Band limits of the textures."""

import numpy as np

from mmcity.toytown.world.noise import cell_hash, fbm, pulse, ridge


def _grid(n, step):
    u, v = np.meshgrid(np.arange(n) * step, np.arange(n) * step)
    return u.ravel().astype(np.float32), v.ravel().astype(np.float32)


def test_noise_fades_to_its_mean_below_the_pixel():
    u, v = _grid(64, 0.37)
    fine = fbm(u, v, np.full_like(u, 0.01), 3, 1.0, 3)
    coarse = fbm(u, v, np.full_like(u, 5.0), 3, 1.0, 3)
    assert fine.std() > 0.2 and abs(fine.mean()) < 0.1
    assert (coarse == 0).all()


def test_noise_is_smooth_across_cells():
    u = np.linspace(0, 20, 20001, dtype=np.float32)
    values = fbm(u, np.full_like(u, 0.3), np.full_like(u, 1e-3), 5, 1.0, 1)
    assert np.abs(np.diff(values)).max() < 0.01


def test_cell_hash_is_uniform_and_constant_in_a_cell():
    u, v = _grid(200, 1.0)
    values = cell_hash(u + 0.2, v + 0.9, 1)
    assert np.array_equal(values, cell_hash(u + 0.7, v + 0.1, 1))
    assert np.abs(np.histogram(values, 10, (0, 1))[0] / len(values) - 0.1).max() < 0.02
    field = values.reshape(200, 200) - 0.5
    assert abs((field[:, 1:] * field[:, :-1]).mean()) < 3e-3  # neighbours are independent


def test_pulse_and_ridge_are_exact_box_filters():
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, 200).astype(np.float32)
    width = rng.uniform(0.05, 2.0, 200).astype(np.float32)
    samples = x[:, None] + width[:, None] * (np.linspace(0, 1, 4001)[None] - 0.5)
    inside = np.mod(samples, 0.7) < 0.2
    assert np.allclose(pulse(x, 0.7, 0.2, width), inside.mean(1), atol=3e-3)
    band = (samples > -0.5) & (samples < 1.0)
    assert np.allclose(ridge(x, -0.5, 1.0, width), band.mean(1), atol=3e-3)
