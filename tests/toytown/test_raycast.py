"""The fallback of the ray caster."""

import sys
import warnings

import numpy as np
import pytest

from mmcity.toytown.sensors import raycast

TRIANGLE = (np.array([[0.0, 0, 2], [2, 0, 2], [0, 2, 2]]), np.array([[0, 1, 2]]))


@pytest.fixture
def no_embree(monkeypatch):
    monkeypatch.setitem(sys.modules, "embreex.rtcore_scene", None)
    monkeypatch.setitem(sys.modules, "embreex.mesh_construction", None)
    monkeypatch.setitem(raycast._state, "has_warned", False)


def test_missing_embree_warns_once_and_answers(no_embree):
    with pytest.warns(UserWarning, match="embreex is not installed"):
        caster = raycast.make_caster([TRIANGLE])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raycast.make_caster([TRIANGLE])
    face, distance, u, v = caster.hit([[0.5, 0.25, 0.0], [1.5, 1.5, 0.0]], [[0, 0, 1.0]] * 2)
    assert face.tolist() == [0, -1]
    assert distance.tolist() == [2.0, np.inf]
    assert (u[0], v[0]) == pytest.approx((0.25, 0.125))


def test_embree_can_be_insisted_on(no_embree):
    with pytest.raises(ImportError):
        raycast.make_caster([TRIANGLE], "embree")
    with pytest.raises(ValueError, match="backend"):
        raycast.make_caster([TRIANGLE], "optix")


@pytest.mark.parametrize("backend", ["embree", "numpy"])
def test_hits_and_shadows(backend):
    if backend == "embree":
        pytest.importorskip("embreex")
    second = (TRIANGLE[0] + [0, 0, 1], TRIANGLE[1])
    caster = raycast.make_caster([second, TRIANGLE], backend)
    origins = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 4.0], [0.5, 0.5, 2.5]])
    directions = np.array([[0, 0, 1.0], [0, 0, -1.0], [0, 0, 1.0]])
    face, distance, u, v = caster.hit(origins, directions)
    assert face.tolist() == [1, 0, 0]  # numbered through the groups
    assert distance == pytest.approx([2.0, 1.0, 0.5])
    assert u == pytest.approx([0.25] * 3) and v == pytest.approx([0.25] * 3)
    blocked = caster.occluded(origins, directions, np.array([1.9, 1.1, 10.0]))
    assert blocked.tolist() == [False, True, True]
