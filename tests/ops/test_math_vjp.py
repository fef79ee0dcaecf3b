"""Each hand-written gradient of ops/csrc/math in float64 against central differences.

The headers are compiled alone, without torch and without kernels, so a failure points at a formula.
The kernels of both backends call these functions.
"""

import ctypes
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mmcity_ops import _build

SOURCE = Path(__file__).with_name("math_vjp.cpp")
NAMES = re.findall(r'^    \{"(\w+)", ', SOURCE.read_text(), re.MULTILINE)
STEP = 3e-5


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """The headers as a host library."""
    _build.check_toolchain()
    library = tmp_path_factory.mktemp("math") / "math_vjp.so"
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-I", str(_build.CSRC)]
    subprocess.run(["c++", *flags, str(SOURCE), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.case_name.restype = ctypes.c_char_p
    return loaded


def pointer(array):
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_double))


def pose(rng):
    """Rows of a rotation near the identity, then a translation that keeps points in front."""
    turn, _ = np.linalg.qr(np.eye(3) + rng.normal(0, 0.1, (3, 3)))
    turn = turn @ np.diag(np.sign(np.diag(turn)))
    return [*turn.flatten(), *rng.normal(0, 0.1, 2), 3.0]


def symmetric(rng):
    """Six numbers of a positive definite matrix."""
    root = rng.normal(0, 0.4, (3, 3)) + np.eye(3)
    full = root @ root.T
    return full[np.triu_indices(3)]


def random_input(name, rng):
    """Inputs where the function is smooth: inside the image, not at a clamp or a tie."""
    mean, turn, scales = rng.normal(0, 0.3, 3), rng.normal(0, 1, 4), rng.uniform(0.1, 0.4, 3)
    if name.startswith("project_covar"):
        return [*mean, *(0.05 * symmetric(rng)), *pose(rng)]
    if name.startswith("project"):
        return [*mean, *turn, *scales, *pose(rng)]
    if name in ("pinhole", "ortho", "fisheye"):
        return [*rng.normal(0, 0.5, 2), rng.uniform(1.5, 4)]
    if name == "rotation":
        return turn
    if name in ("covariance", "precision"):
        return [*turn, *rng.uniform(0.3, 1.5, 3)]
    if name == "harmonics":
        return rng.normal(0, 1, 3)
    if name == "blend":
        splats = []
        for _ in range(4):
            conic = np.linalg.inv(np.diag(rng.uniform(2, 6, 2)) + 0.3)
            conic = (conic[0, 0], conic[0, 1], conic[1, 1])
            splats += [*rng.normal(0, 1, 2), *conic, rng.uniform(0.2, 0.7), rng.uniform(0, 1)]
        return splats
    if name == "surfels":
        surfels = []
        for depth in (2.0, 3.5, 5.0, 7.0):
            m = rng.normal(0, 0.3, (3, 3)) + np.diag([3.0, 3.0, 0.0])
            m[2] = (*rng.normal(0, 0.2, 2), depth)
            m[:2, 2] = (0.5 + rng.normal(0, 0.4, 2)) * depth
            tail = (*(0.5 + rng.normal(0, 2, 2)), rng.uniform(0.1, 0.4), rng.uniform(0, 1))
            surfels += [*m.flatten(), *tail]
        return surfels
    if name.startswith("density"):
        return [*rng.normal(0, 0.6, 3), *symmetric(rng), rng.uniform(0.2, 1)]
    if name == "ssim":
        a, b = rng.uniform(0.2, 0.8, 2)
        return [a, b, a * a + rng.uniform(0.01, 0.1), b * b + rng.uniform(0.01, 0.1), a * b + 0.005]
    if name == "plane":
        return [*mean, *turn, *pose(rng)]
    assert name == "plane_depth"
    return [*rng.normal(0, 0.2, 2), -rng.uniform(0.3, 0.9), rng.uniform(0.5, 3)]


def test_the_names_are_those_of_the_library(host):
    assert [host.case_name(i).decode() for i in range(host.case_count())] == NAMES
    assert len(NAMES) == 20


@pytest.mark.parametrize("name", NAMES)
def test_vjp_matches_central_differences(host, name):
    index = NAMES.index(name)
    n_in, n_out = host.case_inputs(index), host.case_outputs(index)

    def value(x):
        out = np.zeros(n_out)
        host.case_value(index, pointer(x), pointer(out))
        return out

    largest = 0.0
    for seed in range(8):
        rng = np.random.default_rng(100 * index + seed)
        x = np.array(random_input(name, rng), np.float64)
        assert x.shape == (n_in,)
        g, found, wanted = rng.normal(0, 1, n_out), np.zeros(n_in), np.zeros(n_in)
        host.case_vjp(index, pointer(x), pointer(g), pointer(found))
        for k in range(n_in):
            step = np.zeros(n_in)
            step[k] = STEP
            near, far = value(x + step) - value(x - step), value(x + 2 * step) - value(x - 2 * step)
            wanted[k] = (8 * near - far) @ g / (12 * STEP)  # error of fourth order
        assert np.isfinite(value(x)).all()
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7 * scale + 1e-9)
        largest = max(largest, scale)
    assert largest > 1e-3  # the gradient is not zero everywhere
