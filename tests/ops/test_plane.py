"""Planes of flat Gaussians: native against reference, gradients, and a plane known exactly."""

import pytest
import torch

import mmcity_ops as ops
from mmcity_ops import _backend
from tests.ops.scene import random_scene

NATIVE = torch.ops.mmcity


@pytest.fixture(scope="module", autouse=True)
def native_library():
    _backend.load_cpu_library()


def packed_ids(cameras, n):
    """Every second row of a dense call, as packed ids."""
    rows = torch.arange(0, cameras * n, 2)
    return rows // n, rows % n


def features(scene, ids=(None, None)):
    return ops.plane_features(
        scene["means"], scene["quats"], scene["scales"], scene["viewmats"], *ids
    )


def maps(dtype=torch.float64):
    """Blended planes of two images, with invalid pixels among them."""
    g = torch.Generator().manual_seed(0)
    normals = torch.rand(2, 7, 9, 3, generator=g, dtype=dtype) - torch.tensor(
        [0.5, 0.5, 0.9], dtype=dtype
    )
    distances, alphas = (torch.rand(2, 7, 9, 1, generator=g, dtype=dtype) for _ in range(2))
    alphas[0, :2] = 0
    K = torch.tensor([[12.0, 0, 4.0], [0, 11.0, 3.0], [0, 0, 1]], dtype=dtype)
    return normals, distances, alphas, K.expand(2, 3, 3)


def run(function, leaves, backend, monkeypatch):
    """Outputs and gradients of a weighted sum."""
    monkeypatch.setenv("MMCITY_OPS_BACKEND", backend)
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    out = function(*leaves)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    (out * weights).sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("packed", [False, True])
def test_features_and_gradients_are_those_of_the_reference(packed, monkeypatch):
    scene = random_scene(40, cameras=3)
    ids = packed_ids(3, 40) if packed else (None, None)

    def function(means, quats, viewmats):
        return features(scene | dict(means=means, quats=quats, viewmats=viewmats), ids)

    leaves = [scene[key] for key in ("means", "quats", "viewmats")]
    native, reference = (run(function, leaves, b, monkeypatch) for b in ("native", "reference"))
    torch.testing.assert_close(native, reference, rtol=1e-10, atol=1e-12)
    assert native[3][:, :3].abs().max() > 0 and not native[3][:, 3].any()


def test_depth_and_gradients_are_those_of_the_reference(monkeypatch):
    normals, distances, alphas, Ks = maps()

    def function(normals, distances):
        return ops.plane_depth(normals, distances, alphas, Ks)[0]

    native, reference = (
        run(function, [normals, distances], b, monkeypatch) for b in ("native", "reference")
    )
    torch.testing.assert_close(native, reference, rtol=1e-10, atol=1e-12)
    valid = ops.plane_depth(normals, distances, alphas, Ks)[1]
    assert valid.any() and not valid[0, :2].any()
    assert not native[1][~valid[..., 0]].any() and native[1][valid[..., 0]].all()


def test_batches_equal_a_loop():
    scenes = [random_scene(9, seed=seed) for seed in range(2)]
    batch = {key: torch.stack([s[key] for s in scenes]) for key in scenes[0]}
    for one, all_of_it in zip(scenes, features(batch)):
        assert torch.equal(features(one), all_of_it)


def test_float32_stays_close_and_strides_do_not_matter():
    scene = random_scene(30)
    narrow = {key: value.float() for key, value in scene.items()}
    torch.testing.assert_close(features(narrow).double(), features(scene), rtol=1e-5, atol=1e-5)
    strided = {k: v.transpose(0, -1).contiguous().transpose(0, -1) for k, v in scene.items()}
    assert torch.equal(features(strided), features(scene))


def test_gradients_do_not_depend_on_the_number_of_threads(thread_counts, monkeypatch):
    scene = random_scene(9000, dtype=torch.float32)

    def function(means, quats, viewmats):
        return features(scene | dict(means=means, quats=quats, viewmats=viewmats))

    leaves = [scene[key] for key in ("means", "quats", "viewmats")]
    one, two = (
        thread_counts(n, lambda: run(function, leaves, "native", monkeypatch)) for n in (1, 2)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, two))


def test_the_plane_of_a_wall_is_found_exactly():
    # A wall z = 5 seen along +z: normal (0, 0, -1), distance 5; the depth is 5 at every pixel.
    scales = torch.tensor([[0.4, 0.3, 1e-3]]).double()
    means, quats = (
        torch.tensor([[1.0, -0.5, 5.0]]).double(),
        torch.tensor([[1.0, 0, 0, 0]]).double(),
    )
    found = ops.plane_features(means, quats, scales, torch.eye(4).double()[None])
    torch.testing.assert_close(found, torch.tensor([[[0.0, 0.0, -1.0, 5.0]]]).double())
    normals = found[..., :3].expand(1, 6, 8, 3).contiguous() * 0.7  # alpha 0.7: no bias
    distances, alphas = (
        torch.full((1, 6, 8, 1), 3.5).double(),
        torch.full((1, 6, 8, 1), 0.7).double(),
    )
    K = torch.tensor([[9.0, 0, 3.5], [0, 8.0, 3.0], [0, 0, 1]]).double()[None]
    depth, valid = ops.plane_depth(normals, distances, alphas, K)
    assert valid.all()
    torch.testing.assert_close(depth, torch.full_like(depth, 5.0), rtol=1e-7, atol=0)


def test_empty_inputs():
    empty = {k: v[:0] if k not in ("viewmats", "Ks") else v for k, v in random_scene(3).items()}
    assert features(empty).shape == (2, 0, 4)
    none = torch.zeros(0, dtype=torch.int64)
    assert features(random_scene(3), (none, none)).shape == (0, 4)


def test_errors_name_the_argument():
    scene = random_scene(4)
    with pytest.raises(ValueError, match="camera_ids and gaussian_ids"):
        features(scene, (torch.zeros(1, dtype=torch.int64), None))
    with pytest.raises(IndexError, match="camera_ids or gaussian_ids"):
        features(scene, (torch.tensor([0]), torch.tensor([4])))
    normals, distances, alphas, Ks = maps()
    with pytest.raises(ValueError, match="alphas"):
        ops.plane_depth(normals, distances, alphas[:1], Ks)


def test_opcheck_and_double_backward():
    s = random_scene(8, dtype=torch.float32)
    leaves = [s[key].requires_grad_() for key in ("means", "quats", "scales", "viewmats")]
    batch = [leaf.detach()[None].requires_grad_() for leaf in leaves]
    check = torch.library.opcheck
    check(NATIVE.plane_features_fwd, (*batch, None, None))
    check(NATIVE.plane_features_fwd, (*leaves, *packed_ids(2, 8)))
    plain = [leaf.detach() for leaf in batch]
    check(NATIVE.plane_features_bwd, (torch.rand(1, 2, 8, 4), *plain, None, None, True))
    normals, distances, alphas, Ks = maps(torch.float32)
    inputs = (normals.requires_grad_(), distances.requires_grad_(), alphas, Ks, 1e-3, 0.05)
    check(NATIVE.plane_depth_fwd, inputs)
    depth, valid = NATIVE.plane_depth_fwd(*inputs)
    check(NATIVE.plane_depth_bwd, (depth.detach(), normals.detach(), distances.detach(), valid, Ks))
    (grad,) = torch.autograd.grad(depth.sum(), normals, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        grad.sum().backward()
