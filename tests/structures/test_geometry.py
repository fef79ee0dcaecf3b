"""Identities of rotations, rigid motions and similarities."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcity.structures import Sim3
from mmcity.structures import geometry as geo

seeds = st.integers(0, 2**31 - 1)
quick = settings(max_examples=25, deadline=None)


def random_quats(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    quats = torch.randn(*shape, 4, generator=generator, dtype=torch.float64)
    return quats / quats.norm(dim=-1, keepdim=True)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix_exp(matrix):
    """The power series; torch.linalg.matrix_exp is good to 1e-11 only."""
    total = term = torch.eye(len(matrix), dtype=matrix.dtype)
    for order in range(1, 60):
        term = term @ matrix / order
        total = total + term
    return total


@quick
@given(seeds)
def test_quaternions_and_matrices_agree(seed):
    a, b = random_quats(seed, 5), random_quats(seed + 1, 5)
    Ra, Rb = geo.quat_to_rotmat(a), geo.quat_to_rotmat(b)
    torch.testing.assert_close(Ra @ Ra.mT, torch.eye(3).double().expand(5, 3, 3))
    torch.testing.assert_close(torch.linalg.det(Ra), torch.ones(5).double())
    torch.testing.assert_close(geo.quat_to_rotmat(geo.quat_multiply(a, b)), Ra @ Rb)
    back = geo.rotmat_to_quat(Ra)
    assert (back[:, 0] >= 0).all()
    torch.testing.assert_close(back * torch.sign((back * a).sum(-1, keepdim=True)), a)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -1, 1)])
def test_half_turns_are_exact(axis):
    axis = torch.tensor(axis, dtype=torch.float64)
    axis = axis / axis.norm()
    R = 2 * torch.outer(axis, axis) - torch.eye(3).double()
    q = geo.rotmat_to_quat(R)
    torch.testing.assert_close(geo.quat_to_rotmat(q), R)
    torch.testing.assert_close(geo.rotmat_to_axis_angle(R).norm(), torch.tensor(np.pi).double())


@quick
@given(seeds, st.floats(1e-9, 3.14))
def test_axis_angle_is_the_matrix_exponential(seed, angle):
    axis = normal(seed, 3)
    vector = axis / axis.norm() * angle
    expected = matrix_exp(geo.skew(vector))
    torch.testing.assert_close(geo.axis_angle_to_rotmat(vector), expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(geo.rotmat_to_axis_angle(expected), vector, atol=1e-8, rtol=1e-8)


@quick
@given(seeds, st.sampled_from([1e-9, 1e-5, 1e-2, 1.0, 3.0]))
def test_se3_exp_is_the_matrix_exponential(seed, size):
    twist = normal(seed, 6)
    twist[3:] = twist[3:] / twist[3:].norm() * size
    generator = torch.zeros(4, 4, dtype=torch.float64)
    generator[:3, :3], generator[:3, 3] = geo.skew(twist[3:]), twist[:3]
    expected = matrix_exp(generator)
    torch.testing.assert_close(geo.se3_exp(twist), expected, atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(geo.se3_inverse(expected) @ expected, torch.eye(4).double())


def test_gradients_are_finite_at_the_identity():
    twist = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(geo.se3_exp, twist)


@quick
@given(seeds)
def test_rotation_6d_round_trip_and_scale_invariance(seed):
    R = geo.quat_to_rotmat(random_quats(seed, 4))
    six = torch.cat([R[..., 0], R[..., 1]], -1)
    torch.testing.assert_close(geo.rotation_6d_to_rotmat(six), R)
    skewed = torch.cat([3 * six[:, :3], six[:, 3:] + 0.7 * six[:, :3]], -1)
    torch.testing.assert_close(geo.rotation_6d_to_rotmat(skewed), R)


@pytest.mark.parametrize(
    "six", [[0.0] * 6, [1, 0, 0, 2, 0, 0], [0, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0]]
)
def test_guarded_6d_is_always_a_rotation(six):
    six = torch.tensor(six, dtype=torch.float64, requires_grad=True)
    R = geo.rotation_6d_to_rotmat(six, guarded=True)
    torch.testing.assert_close(R @ R.mT, torch.eye(3).double())
    assert torch.linalg.det(R).item() == pytest.approx(1)
    R.sum().backward()
    assert six.grad.isfinite().all()


@quick
@given(seeds, st.floats(0, 1))
def test_slerp_moves_at_constant_speed(seed, t):
    a, b = random_quats(seed), random_quats(seed + 1)
    Ra, Rb, Rt = map(geo.quat_to_rotmat, (a, b, geo.quat_slerp(a, b, t)))
    whole = geo.rotation_angle(Ra, Rb)
    torch.testing.assert_close(geo.rotation_angle(Ra, Rt), t * whole, atol=1e-7, rtol=1e-7)
    torch.testing.assert_close(geo.rotation_angle(Rt, Rb), (1 - t) * whole, atol=1e-7, rtol=1e-7)


def test_numpy_in_numpy_out():
    R = geo.quat_to_rotmat(np.array([1.0, 0, 0, 0], np.float32))
    assert isinstance(R, np.ndarray) and R.dtype == np.float32
    q = geo.quat_slerp(np.array([1.0, 0, 0, 0]), np.array([0.0, 0, 0, 1]), 0.5)
    np.testing.assert_allclose(geo.quat_to_rotmat(q)[:2, 0], [0, 1], atol=1e-12)


def test_look_at_puts_the_target_in_the_middle_and_up_is_up():
    view = geo.look_at(torch.tensor([3.0, -4.0, 2.0]), torch.zeros(3))
    points = torch.tensor([[0.0, 0, 0], [0, 0, 0.1], [3.0, -4.0, 2.0]])
    local = geo.transform_points(view, points)
    torch.testing.assert_close(local[0], torch.tensor([0, 0, 29**0.5]), atol=1e-6, rtol=0)
    assert local[1, 1] < 0 and abs(local[1, 0]) < 1e-6  # up in the world is -y in the picture
    torch.testing.assert_close(local[2], torch.zeros(3), atol=1e-6, rtol=0)
    assert torch.linalg.det(view[:3, :3]).item() == pytest.approx(1, abs=1e-6)
    nadir = geo.look_at(torch.tensor([0.0, 0, 9]), torch.zeros(3))
    assert nadir.isfinite().all()
    with pytest.raises(ValueError, match="eye at its target"):
        geo.look_at(torch.zeros(3), torch.zeros(3))


@quick
@given(seeds, st.floats(0.01, 100))
def test_umeyama_recovers_a_similarity(seed, scale):
    truth = Sim3(scale, geo.quat_to_rotmat(random_quats(seed)), normal(seed, 3))
    points = normal(seed + 2, 7, 3)
    found = Sim3.from_points(points, truth(points))
    torch.testing.assert_close(found.matrix, truth.matrix, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close((found.inverse() @ found).matrix, torch.eye(4).double())
    torch.testing.assert_close(Sim3.from_matrix(truth.matrix).matrix, truth.matrix)
    rigid = Sim3.from_points(points, truth(points), with_scale=False)
    assert float(rigid.scale) == 1
    torch.testing.assert_close(rigid.rotation, truth.rotation, atol=1e-9, rtol=1e-9)


def test_umeyama_never_mirrors_and_heeds_weights():
    points = normal(0, 6, 3)
    mirrored = points * torch.tensor([1.0, 1.0, -1.0])
    assert torch.linalg.det(Sim3.from_points(points, mirrored).rotation).item() == pytest.approx(1)
    target = points.clone()
    target[0] += 50
    weights = torch.tensor([0.0, 1, 1, 1, 1, 1])
    torch.testing.assert_close(
        Sim3.from_points(points, target, weights).matrix, torch.eye(4).double()
    )


@pytest.mark.parametrize("points", [torch.zeros(5, 3), torch.arange(5.0)[:, None] * torch.ones(3)])
def test_umeyama_refuses_points_that_fix_no_rotation(points):
    with pytest.raises(ValueError, match="off one line"):
        Sim3.from_points(points, points)


def test_similarity_keeps_poses_rigid():
    sim = Sim3(3.0, geo.quat_to_rotmat(random_quats(1)), normal(2, 3))
    poses = geo.se3_from_rt(geo.quat_to_rotmat(random_quats(3, 4)), normal(4, 4, 3))
    moved = sim.transform_poses(poses)
    torch.testing.assert_close(
        moved[:, :3, :3] @ moved[:, :3, :3].mT, torch.eye(3).double().expand(4, 3, 3)
    )
    torch.testing.assert_close(moved[:, :3, 3], sim(poses[:, :3, 3]))
