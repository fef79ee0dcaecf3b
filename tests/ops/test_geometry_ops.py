"""Gradients, dispatcher rules, determinism and errors of the geometry operators."""

import pytest
import torch

import mmcity_ops as ops
from tests.ops.scene import HEIGHT, WIDTH, leaves, random_scene

NATIVE = torch.ops.mmcity
PROJECTION = (WIDTH, HEIGHT, 0.3, 0.01, 1e10, 0.0, True)


@pytest.fixture(scope="module", autouse=True)
def native_library():
    from mmcity_ops import _backend

    _backend.load_cpu_library()


def project(means, quats, scales, viewmats, Ks, model="pinhole", packed=False):
    outputs = ops.fully_fused_projection(
        means, None, quats, scales, viewmats, Ks, WIDTH, HEIGHT, calc_compensations=True,
        camera_model=model, packed=packed,
    )  # fmt: skip
    return outputs[-4:]


@pytest.mark.parametrize("model", ["pinhole", "ortho", "fisheye"])
@pytest.mark.parametrize("packed", [False, True])
def test_projection_gradients_match_central_differences(model, packed):
    scene = random_scene(6)
    inputs = [scene[k].requires_grad_() for k in ("means", "quats", "scales", "viewmats")]
    torch.autograd.gradcheck(
        lambda *args: project(*args, scene["Ks"], model, packed), inputs, atol=1e-6
    )


@pytest.mark.parametrize("model", ["pinhole", "ortho", "fisheye"])
def test_projection_of_covariances_matches_central_differences(model):
    scene = random_scene(5)
    covars, _ = ops.quat_scale_to_covar_preci(scene["quats"], scene["scales"])
    inputs = [scene["means"].requires_grad_(), covars.requires_grad_()]

    def run(means, covars):
        return ops.fully_fused_projection(
            means, covars, None, None, scene["viewmats"], scene["Ks"], WIDTH, HEIGHT,
            camera_model=model,
        )[1:4]  # fmt: skip

    torch.autograd.gradcheck(run, inputs, atol=1e-6)


@pytest.mark.parametrize("degree", range(5))
@pytest.mark.parametrize("channels", [3, 5])
def test_harmonics_gradients_match_central_differences(degree, channels):
    scene = random_scene(5)
    coeffs = torch.randn(5, 25, channels, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (scene["means"], scene["viewmats"], coeffs)]
    torch.autograd.gradcheck(
        lambda m, v, c: ops.spherical_harmonics(degree, m, v, (c[:, :1], c[:, 1:])), inputs
    )


def test_covariance_gradients_match_central_differences():
    scene = random_scene(6)
    inputs = [scene["quats"].requires_grad_(), scene["scales"].requires_grad_()]
    torch.autograd.gradcheck(ops.quat_scale_to_covar_preci, inputs)


def test_operators_pass_opcheck():
    s = random_scene(8, dtype=torch.float32)
    geometry = (s["means"], None, s["quats"], s["scales"], s["viewmats"], s["Ks"], s["opacities"])
    leaf = [t if t is None else t.clone().requires_grad_() for t in geometry[:5]]
    check = torch.library.opcheck
    # opcheck's own backward adds up outputs in place, which fails where the first is an integer
    # tensor; test_compile.py checks the gradients through aot_autograd instead
    without_aot = ("test_schema", "test_autograd_registration", "test_faketensor")
    for op in (NATIVE.project_fwd, NATIVE.project_packed_fwd):
        check(op, (*geometry, *PROJECTION, 0))
        check(op, (*leaf, *geometry[5:], *PROJECTION, 0), test_utils=without_aot)
    radii, *values = NATIVE.project_fwd(*geometry, *PROJECTION, 0)
    check(
        NATIVE.project_bwd,
        (*geometry[:6], radii, None, None, WIDTH, HEIGHT, 0.3, 0, *values, True, False),
    )
    harmonics = (s["means"], s["viewmats"], s["colors"], None, None, None, None, True)
    check(NATIVE.sh_fwd, (1, *[leaf[0], leaf[4]], *harmonics[2:]))
    colors = NATIVE.sh_fwd(1, *harmonics)
    check(NATIVE.sh_bwd, (1, *harmonics, colors, colors, True, True))
    check(NATIVE.covar_preci_fwd, (leaf[2], leaf[3], True, True))
    covars, precis = NATIVE.covar_preci_fwd(s["quats"], s["scales"], True, True)
    check(NATIVE.covar_preci_bwd, (s["quats"], s["scales"], covars, precis))
    camera = (s["viewmats"], s["Ks"], WIDTH, HEIGHT, 0.1, 9.0, 0.0)
    check(NATIVE.frustum_cull, (s["means"], s["opacities"], *camera))
    levels = torch.arange(8, dtype=torch.int32) % 3
    check(NATIVE.select_lod, (s["means"], levels, None, s["means"][:2], 1.0, 2, 3, 9.0, 1.0, 3))
    moments = [torch.rand(8, 3) for _ in range(4)]
    visible = torch.arange(8) % 2 == 0
    check(NATIVE.selective_adam_, (*moments, visible, 0.1, 0.9, 0.99, 1e-8, 3))


@pytest.mark.parametrize("packed", [False, True])
def test_gradients_do_not_depend_on_the_number_of_threads(packed):
    def gradients(threads):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            scene = leaves(random_scene(6000, dtype=torch.float32))
            scene = {k: v for k, v in scene.items()}
            renders, _, _ = ops.rasterization(
                **scene, width=WIDTH, height=HEIGHT, sh_degree=1, packed=packed
            )
            (renders * torch.linspace(-1, 1, WIDTH)[:, None]).sum().backward()
            return [value.grad for key, value in scene.items() if key != "Ks"]
        finally:
            torch.set_num_threads(before)

    for one, two in zip(gradients(1), gradients(2)):
        assert torch.equal(one, two)


def test_double_backward_is_refused():
    scene = random_scene(4)
    means = scene["means"].requires_grad_()
    out = project(means, scene["quats"], scene["scales"], scene["viewmats"], scene["Ks"])[1]
    (grad,) = torch.autograd.grad(out.sum(), means, create_graph=True)
    with pytest.raises(RuntimeError, match="expected no double backward"):
        grad.sum().backward()


def test_sparse_gradients_equal_dense_ones():
    scene = random_scene(20, cameras=2)

    def gradients(sparse):
        s = leaves(scene)
        outputs = ops.fully_fused_projection(
            s["means"], None, s["quats"], s["scales"], s["viewmats"], s["Ks"], WIDTH, HEIGHT,
            packed=True, sparse_grad=sparse,
        )  # fmt: skip
        (outputs[5].square().sum() + outputs[7].sum()).backward()
        return [s[key].grad for key in ("means", "quats", "scales", "viewmats")]

    for sparse, dense in zip(gradients(True), gradients(False)):
        assert sparse.is_sparse == (sparse.shape[-1] != 4 or sparse.dim() == 2)
        torch.testing.assert_close(sparse.to_dense() if sparse.is_sparse else sparse, dense)


def test_batches_equal_a_loop(monkeypatch):
    scenes = [random_scene(12, seed=seed) for seed in range(2)]
    batch = {key: torch.stack([s[key] for s in scenes]) for key in scenes[0]}
    options = dict(width=WIDTH, height=HEIGHT, sh_degree=1, render_mode="RGB+ED+N")
    for packed in (False, True):
        whole, alphas, _ = ops.rasterization(**batch, **options, packed=packed)
        for index, scene in enumerate(scenes):
            single, alpha, _ = ops.rasterization(**scene, **options, packed=packed)
            torch.testing.assert_close(whole[index], single)
            torch.testing.assert_close(alphas[index], alpha)


def test_selective_adam_equals_torch_on_visible_rows(monkeypatch):
    torch.manual_seed(0)
    start, grads = torch.randn(10, 3), [torch.randn(10, 3) for _ in range(3)]
    visible = torch.tensor([True, False] * 5)
    wanted = start[visible].clone().requires_grad_()
    adam = torch.optim.Adam([wanted], lr=0.1, betas=(0.8, 0.95), eps=1e-8)
    for backend in ("native", "reference"):
        monkeypatch.setenv("MMCITY_OPS_BACKEND", backend)
        param, m, v = start.clone(), torch.zeros(10, 3), torch.zeros(10, 3)
        for step, grad in enumerate(grads, 1):
            ops.selective_adam(param, grad, m, v, visible, 0.1, 0.8, 0.95, 1e-8, step)
            if backend == "native":
                wanted.grad = grad[visible]
                adam.step()
        torch.testing.assert_close(param[visible], wanted.detach())
        assert torch.equal(param[~visible], start[~visible])
        assert not m[~visible].any()


def test_error_messages_name_the_argument():
    s = random_scene(4)
    args = [s[k] for k in ("means", "quats", "scales", "opacities", "colors", "viewmats", "Ks")]

    def run(index=None, value=None, **kw):
        changed = list(args)
        if index is not None:
            changed[index] = value
        return ops.rasterization(*changed, WIDTH, HEIGHT, **{"sh_degree": 1, **kw})

    with pytest.raises(ValueError, match=r"quats: expected shape \[4, 4\], got \[4, 3\]"):
        run(1, s["scales"])
    with pytest.raises(ValueError, match="viewmats: expected shape"):
        run(5, s["viewmats"][0])
    with pytest.raises(TypeError, match="scales: expected torch.float64 as of 'means', got"):
        run(2, s["scales"].float())
    with pytest.raises(ValueError, match="expected K >= 16 coefficients for degree 3"):
        run(sh_degree=3)
    with pytest.raises(ValueError, match="render_mode: expected one of RGB"):
        run(render_mode="RGBD")
    with pytest.raises(ValueError, match="covars excludes quats"):
        run(covars=torch.eye(3, dtype=torch.float64).expand(4, 3, 3))
    with pytest.raises(ValueError, match="packed: expected True for sparse_grad"):
        run(sparse_grad=True, packed=False)
    with pytest.raises(RuntimeError, match="expected the package gsplat|expected CUDA"):
        run(implementation="gsplat")
    bad = s["means"].clone()
    bad[2, 1] = float("nan")
    with (
        ops.debug_mode(),
        pytest.raises(ValueError, match=r"means: expected finite, got nan at index \[2, 1\]"),
    ):
        run(0, bad)
