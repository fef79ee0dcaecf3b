"""Axes by name: matrices, handedness, and scenes turned from one to another."""

import itertools

import numpy as np
import pytest
import torch

from mmcity.structures import AXES, SceneFrame, axes_matrix, convert_axes, right_handed_twin
from mmcity.structures.axes import is_right_handed, up_direction
from mmcity_ops import rasterization
from tests.structures.io.test_gaussian_formats import scene

PAIRS = list(itertools.product(AXES, AXES))


def colors_at(gaussians, directions):
    """``(N, D, 3)`` by the basis of 3DGS written out by hand up to degree 2."""
    x, y, z = directions.T
    c1, c2 = 0.4886025119029199, 1.0925484305920792
    basis = [0.28209479177387814 + 0 * x, -c1 * y, c1 * z, -c1 * x, c2 * x * y, -c2 * y * z]
    basis += [0.31539156525252005 * (2 * z * z - x * x - y * y), -c2 * x * z]
    basis += [0.5462742152960396 * (x * x - y * y)]
    return torch.einsum("kd,nkc->ndc", torch.stack(basis), gaussians.sh)


def test_codes_are_those_of_spz():
    assert len(AXES) == 16 and sorted(AXES.values()) == list(range(1, 17))
    known = dict(LDB=1, RDB=2, LUB=3, RUB=4, RDF=6, LUF=7, RUF=8, RFU=12, LBD=13, RBU=16)
    assert {name: AXES[name] for name in known} == known


def test_matrices_by_hand():
    assert axes_matrix("RDF", "RUB").tolist() == [[1, 0, 0], [0, -1, 0], [0, 0, -1]]
    assert axes_matrix("RFU", "RUB").tolist() == [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    assert axes_matrix("LUF", "RUB").tolist() == [[-1, 0, 0], [0, 1, 0], [0, 0, -1]]
    with pytest.raises(ValueError, match="axes: expected one of .* got 'XYZ'"):
        axes_matrix("XYZ", "RUB")


def test_matrices_invert_compose_and_tell_mirrors():
    for a, b in PAIRS:
        matrix = axes_matrix(a, b)
        assert np.array_equal(matrix @ axes_matrix(b, a), np.eye(3))
        assert np.linalg.det(matrix) == (1 if is_right_handed(a) == is_right_handed(b) else -1)
        for c in AXES:
            assert np.array_equal(axes_matrix(b, c) @ matrix, axes_matrix(a, c))
    assert sum(map(is_right_handed, AXES)) == 8


def test_twins_are_right_handed_and_keep_what_is_upright():
    twins = {axes: right_handed_twin(axes) for axes in AXES}
    assert set(twins.values()) == {"RFU", "RBD", "RUB", "RDF"}
    for axes, twin in twins.items():
        assert is_right_handed(twin)
        place = next(axes.index(letter) for letter in axes if letter in "UD")
        assert twin[place] == axes[place]


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_scenes_keep_their_shapes_and_colours(source, target):
    before = scene(6, degree=2)
    matrix = torch.from_numpy(axes_matrix(source, target)).float()

    after = convert_axes(before, source, target)

    assert torch.equal(after.means, before.means @ matrix.T)
    expected = matrix @ before.covariances @ matrix.T
    assert torch.allclose(after.covariances, expected, rtol=1e-5, atol=1e-5)
    directions = torch.nn.functional.normalize(torch.randn(20, 3), dim=-1)
    seen, turned = colors_at(before, directions), colors_at(after, directions @ matrix.T)
    assert torch.allclose(seen, turned, atol=1e-5)
    again = convert_axes(after, target, source)
    assert torch.allclose(again.sh, before.sh, atol=1e-5)


def test_a_scene_with_a_frame_follows_a_turn_and_refuses_a_mirror():
    placed = scene(3)
    placed.frame = SceneFrame(origin=(100.0, 200.0, 300.0))
    turned = convert_axes(placed, "RDF", "RUB")
    assert np.allclose(
        turned.frame.scene_to_world(turned.means), placed.frame.scene_to_world(placed.means)
    )
    with pytest.raises(ValueError, match="one handedness"):
        convert_axes(placed, "RDF", "RUF")


RIGHT_HANDED = [axes for axes in AXES if is_right_handed(axes)]


@pytest.mark.parametrize("target", RIGHT_HANDED)
def test_a_scene_and_its_camera_turned_alike_look_alike(target):
    before = scene(40, degree=3).to(torch.float64)
    before.means = before.means / 20 + torch.tensor([0.0, 0.0, 6.0])
    after = convert_axes(before, "RDF", target)
    camera, turned = torch.eye(4).double(), torch.eye(4).double()
    turned[:3, :3] = torch.from_numpy(axes_matrix(target, "RDF"))
    K = torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]).double()

    def render(gaussians, viewmat):
        colors, _, _ = rasterization(
            gaussians.means,
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            gaussians.sh,
            viewmat[None],
            K[None],
            64,
            48,
            sh_degree=3,
        )
        return colors

    seen = render(before, camera)
    assert seen.std() > 0.05
    assert (render(after, turned) - seen).abs().max() < 1e-9


def test_the_direction_up_of_some_axes():
    found = {axes: up_direction(axes).tolist() for axes in ("RUB", "RDF", "RFU", "RBD", "LUF")}
    y, z = [0, 1, 0], [0, 0, 1]
    assert found == dict(RUB=y, RDF=[0, -1, 0], RFU=z, RBD=[0, 0, -1], LUF=y)
