"""The operators inside ``torch.compile`` and under autocast: no graph break, equal numbers."""

import pytest
import torch
from torch.testing._internal.optests import aot_autograd_check

import mmcity_ops as ops
from mmcity_ops import _backend
from tests.devices import DEVICE, on_the_cpu
from tests.ops.scene import HEIGHT, WIDTH, random_scene

CAMERAS = ("viewmats", "Ks")
traced = on_the_cpu("the compiler cannot trace how the suite places tensors")


@pytest.fixture(scope="module", autouse=True)
def native_library():
    _backend.load_cpu_library()


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def gradients(function, tensors):
    """Outputs and gradients of the sum of the floating ones, weighted unevenly."""
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    outputs = function(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    floats = [out for out in outputs if out.requires_grad]
    sum(
        (out * torch.linspace(0.5, 1.5, out.numel()).view(out.shape)).sum() for out in floats
    ).backward()
    return [out.detach() for out in outputs], [leaf.grad for leaf in leaves]


def assert_compiled_equals_eager(function, *calls, backend="aot_eager", dynamic=None):
    """``calls`` are lists of tensors; all go through one compiled function."""
    compiled = torch.compile(function, fullgraph=True, backend=backend, dynamic=dynamic)
    for tensors in calls:
        for eager, traced in zip(gradients(function, tensors), gradients(compiled, tensors)):
            torch.testing.assert_close(traced, eager)


@pytest.mark.parametrize("packed", [False, pytest.param(True, marks=traced)])
def test_projection_gradients_survive_dynamic_dispatch(packed):
    """Stands in for a part of opcheck, whose own backward starts its sum with the integer radii."""
    s = random_scene(8, dtype=torch.float32)
    op = torch.ops.mmcity.project_packed_fwd if packed else torch.ops.mmcity.project_fwd
    leaves = [s[key].requires_grad_() for key in ("means", "quats", "scales", "viewmats")]

    def floats(means, quats, scales, viewmats, Ks, opacities):
        outputs = op(
            means, None, quats, scales, viewmats, Ks, opacities, WIDTH, HEIGHT, 0.3, 0.01, 1e10,
            0.0, True, 0,
        )  # fmt: skip
        return outputs[-4:]

    args = (*leaves, s["Ks"], s["opacities"])
    if not packed:
        aot_autograd_check(floats, args, {}, dynamic=True, check_gradients="auto")
        return
    # The number of rows depends on the data, which only torch.compile allows.
    compiled = torch.compile(floats, fullgraph=True, backend="aot_eager", dynamic=True)
    grads = []
    for run in (floats, compiled):
        loss = sum(out.sin().sum() for out in run(*args))
        grads.append(torch.autograd.grad(loss, leaves))
    torch.testing.assert_close(grads[1], grads[0])


def render_loss(packed, mode="RGB+ED", **options):
    def loss(means, quats, scales, opacities, colors, viewmats, Ks):
        renders, alphas, _ = ops.rasterization(
            means, quats, scales, opacities, colors, viewmats, Ks, WIDTH, HEIGHT, sh_degree=1,
            packed=packed, render_mode=mode, **options,
        )  # fmt: skip
        return renders.square().mean() + alphas.mean()

    return loss


def scene_tensors(n):
    scene = random_scene(n, dtype=torch.float32)
    order = ("means", "quats", "scales", "opacities", "colors", "viewmats", "Ks")
    return [scene[key] for key in order]


@traced
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_render_loss_compiles_for_any_number_of_gaussians(packed, backend):
    loss = render_loss(packed)
    compiled = torch.compile(loss, fullgraph=True, backend=backend, dynamic=True)
    for n in (20, 33):
        results = []
        for function in (loss, compiled):
            tensors = scene_tensors(n)
            leaves = [t.requires_grad_() for t in tensors[:-1]]
            value = function(*leaves, tensors[-1])
            value.backward()
            results.append([value.detach(), *(leaf.grad for leaf in leaves)])
        torch.testing.assert_close(results[1], results[0])


@traced
@pytest.mark.slow
@pytest.mark.ci_slow
@pytest.mark.parametrize("options", [dict(mode="RGB+D+N+P"), dict(rasterize_mode="antialiased")])
def test_other_modes_compile(options):
    mode = options.pop("mode", "RGB")
    loss = render_loss(False, mode, **options)
    tensors = scene_tensors(20)
    assert_compiled_equals_eager(lambda *t: loss(*t, tensors[-1]), tensors[:-1])


@traced
@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_a_render_loss_compiles_with_inductor(packed):
    loss, tensors = render_loss(packed), scene_tensors(20)
    assert_compiled_equals_eager(lambda *t: loss(*t, tensors[-1]), tensors[:-1], backend="inductor")


VOXELS = dict(vol_range=[-1.0, -1, -1, 1, 1, 1], voxel_size=0.25)


def small_volume(n=12):
    g = torch.Generator().manual_seed(0)
    return [
        torch.rand(n, 3, generator=g) * 2 - 1,
        torch.rand(n, generator=g),
        torch.rand(n, 5, generator=g),
        torch.rand(n, 4, generator=g) - 0.5,
        torch.rand(n, 3, generator=g) * 0.3 + 0.1,
    ]


def voxels(means, opacities, features, quats, scales):
    return ops.gaussians_to_voxels(
        means=means, opacities=opacities, features=features, quats=quats, scales=scales, **VOXELS
    )


def splat_semantics(means, opacities, semantics, quats, scales):
    points = torch.linspace(-0.9, 0.9, 30).view(10, 3)
    return ops.semantic_splat(points, means, (quats, scales), opacities, semantics, **VOXELS)


def planes(means, quats, scales, viewmats):
    return ops.plane_features(means, quats, scales.detach(), viewmats)


@traced
@pytest.mark.parametrize("function", [voxels, splat_semantics])
def test_volume_operators_compile(function):
    assert_compiled_equals_eager(function, small_volume(12), small_volume(17), dynamic=True)


@traced
def test_similarity_and_planes_compile():
    images = [torch.rand(1, 3, 20, 30), torch.rand(1, 3, 20, 30)]
    assert_compiled_equals_eager(lambda a, b: ops.fused_ssim(a, b), images)

    def depth(normals, distances, alphas):
        Ks = torch.tensor([[30.0, 0, 15], [0, 30, 10], [0, 0, 1]])[None]
        value, valid = ops.plane_depth(-normals, distances, alphas, Ks)
        return value * valid + 0 * alphas

    maps = [torch.rand(1, 20, 30, 3), torch.rand(1, 20, 30, 1), torch.rand(1, 20, 30, 1)]
    assert_compiled_equals_eager(depth, maps)


class TestAutocast:
    """Half inputs are cast to float32 before the work; float32 results do not change."""

    @pytest.fixture(autouse=True)
    def autocast(self):
        self.scene = random_scene(12, dtype=torch.float32)

    def check(self, function, tensors, rounded=()):
        plain = function(
            *[t.bfloat16().float() if i in rounded else t for i, t in enumerate(tensors)]
        )
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            cast = function(*[t.bfloat16() if i in rounded else t for i, t in enumerate(tensors)])
        plain = plain if isinstance(plain, tuple) else (plain,)
        cast = cast if isinstance(cast, tuple) else (cast,)
        for want, got in zip(plain, cast):
            assert got.dtype == want.dtype != torch.bfloat16
            torch.testing.assert_close(got, want, rtol=0, atol=0)

    @pytest.mark.parametrize("backend", ["native", "reference"])
    def test_similarity_of_half_images(self, backend, monkeypatch):
        monkeypatch.setenv("MMCITY_OPS_BACKEND", backend)
        images = [torch.rand(1, 3, 16, 18), torch.rand(1, 3, 16, 18)]
        self.check(ops.fused_ssim, images, rounded=(0, 1))

    @pytest.mark.parametrize("backend", ["native", "reference"])
    def test_half_features_of_compositing(self, backend, monkeypatch):
        monkeypatch.setenv("MMCITY_OPS_BACKEND", backend)
        s = self.scene
        features = torch.rand(12, 16)

        def run(features):
            return ops.rasterization(
                s["means"], s["quats"], s["scales"], s["opacities"], features, s["viewmats"],
                s["Ks"], WIDTH, HEIGHT,
            )[:2]  # fmt: skip

        self.check(run, [features], rounded=(0,))

    @pytest.mark.parametrize("function", [voxels, splat_semantics])
    def test_volumes(self, function):
        self.check(function, small_volume())

    def test_geometry(self):
        s = self.scene
        self.check(planes, [s[key] for key in ("means", "quats", "scales", "viewmats")])
        self.check(ops.quat_scale_to_covar_preci, [s["quats"], s["scales"]])
        self.check(
            lambda m, v, c: ops.spherical_harmonics(1, m, v, c),
            [s["means"], s["viewmats"], s["colors"]],
        )

    def test_gradients_are_those_of_float32(self):
        results = []
        for enabled in (False, True):
            leaves = [t.requires_grad_() for t in scene_tensors(12)[:-1]]
            with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=enabled):
                value = render_loss(True)(*leaves, self.scene["Ks"])
            value.backward()
            results.append([leaf.grad for leaf in leaves])
        torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
