"""2D Gaussians: native code against the torch reference, distortion and median depth."""

import math

import pytest
import torch

from mmcity_ops import projection_2dgs, rasterization_2dgs

WIDTH, HEIGHT = 45, 38


def make_scene(count=40, dtype=torch.float64):
    g = torch.Generator().manual_seed(5)
    means = torch.rand(count, 3, generator=g) * torch.tensor([4.0, 3.0, 3.0])
    means = means + torch.tensor([-2.0, -1.5, 2.0])
    quats = torch.randn(count, 4, generator=g)
    scales = torch.rand(count, 3, generator=g) * 0.4 + 0.05
    opacities = torch.rand(count, generator=g) * 0.9 + 0.1
    colors = torch.rand(count, 4, generator=g)
    viewmats = torch.eye(4).repeat(2, 1, 1)
    viewmats[1, 0, 3] = 0.3
    Ks = torch.tensor([[40.0, 0, WIDTH / 2], [0, 40.0, HEIGHT / 2], [0, 0, 1]]).repeat(2, 1, 1)
    leaves = [x.to(dtype).requires_grad_() for x in (means, quats, scales, opacities, colors)]
    return leaves, viewmats.to(dtype).requires_grad_(), Ks.to(dtype)


def run(dtype=torch.float64, **kwargs):
    leaves, viewmats, Ks = make_scene(dtype=dtype)
    renders, alphas, meta = rasterization_2dgs(
        *leaves, viewmats, Ks, WIDTH, HEIGHT, backgrounds=torch.ones(2, 4, dtype=dtype), **kwargs
    )
    outputs = [renders, alphas, meta["normals"], meta["distortion"], meta["median_depth"]]
    g = torch.Generator().manual_seed(8)
    weights = [torch.rand(x.shape, generator=g, dtype=torch.float64).to(dtype) for x in outputs]
    torch.autograd.backward(outputs, weights)
    return outputs, [leaf.grad for leaf in (*leaves, viewmats)]


@pytest.mark.parametrize("render_mode", ["RGB", "RGB+ED"])
def test_native_equals_reference(render_mode, monkeypatch):
    native = run(render_mode=render_mode)
    monkeypatch.setenv("MMCITY_OPS_BACKEND", "reference")
    reference = run(render_mode=render_mode)
    for got, want in zip([*native[0], *native[1]], [*reference[0], *reference[1]]):
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-9)


def test_float32_stays_close_to_float64():
    for got, want in zip(run(torch.float32)[1], run()[1]):
        assert (got.double() - want).norm() < 2e-3 * want.norm()


def test_threads_do_not_change_a_bit(thread_counts):
    one = thread_counts(1, lambda: run(torch.float32))
    many = thread_counts(8, lambda: run(torch.float32))
    assert all(torch.equal(a, b) for a, b in zip(one[1], many[1]))


def test_distortion_and_median_of_two_parallel_discs():
    """Two discs facing the camera: one pair, w1 w2 (m1 - m2)^2; the median is the first."""
    depth = torch.tensor([2.0, 4.0], dtype=torch.float64)
    means = torch.stack([torch.zeros(2), torch.zeros(2), depth], -1).double()
    quats = torch.tensor([[1.0, 0, 0, 0]] * 2, dtype=torch.float64)
    K = torch.tensor([[[10.0, 0, 0.5], [0, 10.0, 0.5], [0, 0, 1]]], dtype=torch.float64)
    opacities = torch.tensor([0.6, 0.5], dtype=torch.float64)
    _, alphas, meta = rasterization_2dgs(
        means, quats, torch.ones(2, 3).double(), opacities, torch.ones(2, 1).double(),
        torch.eye(4)[None].double(), K, 1, 1,
    )  # fmt: skip
    w = [0.6, 0.4 * 0.5]
    m = [100 / 99.8 * (1 - 0.2 / z) for z in (2.0, 4.0)]
    assert math.isclose(float(alphas), sum(w), rel_tol=1e-12)
    assert math.isclose(float(meta["distortion"]), w[0] * w[1] * (m[0] - m[1]) ** 2, rel_tol=1e-9)
    assert math.isclose(float(meta["median_depth"]), 2.0)
    torch.testing.assert_close(meta["normals"][0, 0, 0, 2].item(), -sum(w))


def test_planes_at_the_limits_are_culled():
    means = torch.tensor([[0.0, 0, 1.0], [0, 0, 2.0], [0, 0, 3.0]])
    quats = torch.tensor([[1.0, 0, 0, 0]] * 3)
    K = torch.tensor([[[10.0, 0, 8], [0, 10.0, 8], [0, 0, 1]]])
    radii = projection_2dgs(
        means, quats, torch.full((3, 3), 0.1), torch.eye(4)[None], K, 16, 16, near_plane=1.0,
        far_plane=3.0,
    )[0]  # fmt: skip
    assert (radii > 0).all(-1).tolist() == [[False, True, False]]


def test_no_surfel_gives_the_background():
    empty = [torch.zeros(0, k) for k in (3, 4, 3)]
    renders, alphas, _ = rasterization_2dgs(
        *empty, torch.zeros(0), torch.zeros(0, 3), torch.eye(4)[None], torch.eye(3)[None], 9, 7,
        backgrounds=torch.tensor([[0.1, 0.2, 0.3]]),
    )  # fmt: skip
    assert (alphas == 0).all() and torch.equal(renders[0, 3, 4], torch.tensor([0.1, 0.2, 0.3]))
