"""Projection, harmonics, renders and surfels on CUDA against the CPU: batches, packing, modes."""

import pytest
import torch

import mmcity_ops as ops
from tests.ops.compare import GEOMETRY, NEEDS_CUDA, compare, on, relative, scene
from tests.ops.scene import HEIGHT, WIDTH, random_scene

pytestmark = NEEDS_CUDA
SPLATS = ("means", "quats", "scales", "opacities", "colors", "viewmats", "Ks")


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("cameras", [1, 3])
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("covars", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_projection_of_batches(deterministic, cameras, batched, covars, packed, cuda_determinism):
    """333 Gaussians fill no block."""
    cuda_determinism(deterministic)
    inputs = random_scene(n=333, cameras=cameras, dtype=torch.float32)
    del inputs["colors"]
    if batched:
        moved = {k: v if k == "Ks" else v + 0.01 * torch.rand_like(v) for k, v in inputs.items()}
        inputs = {key: torch.stack([inputs[key], moved[key]]) for key in inputs}
    inputs["covars"] = ops.quat_scale_to_covar_preci(inputs["quats"], inputs["scales"])[0]

    def run(means, quats, scales, viewmats, Ks, opacities, covars):
        shape = (covars, None, None) if use_covars else (None, quats, scales)
        return ops.fully_fused_projection(
            means, *shape, viewmats, Ks, width=WIDTH, height=HEIGHT, opacities=opacities,
            packed=packed, calc_compensations=True, radius_clip=1.0,
        )  # fmt: skip

    use_covars = covars
    compare(run, inputs, ("means", "covars", "viewmats") if covars else GEOMETRY)


@pytest.mark.parametrize("model", ["pinhole", "ortho", "fisheye"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("deterministic", [False, True])
def test_projection_of_covariances(model, packed, deterministic, cuda_determinism):
    cuda_determinism(deterministic)
    inputs = scene()
    covars = ops.quat_scale_to_covar_preci(inputs["quats"], inputs["scales"])[0]
    inputs = {**{key: inputs[key] for key in ("means", "viewmats", "Ks")}, "covars": covars}

    def run(means, viewmats, Ks, covars):
        return ops.fully_fused_projection(
            means, covars, None, None, viewmats, Ks, WIDTH, HEIGHT, packed=packed,
            calc_compensations=True, camera_model=model,
        )  # fmt: skip

    compare(run, inputs, ("means", "viewmats", "covars"))


@pytest.mark.parametrize("cameras", [1, 2])
def test_packed_gradients_per_row(cameras):
    inputs, results = random_scene(n=300, cameras=cameras, dtype=torch.float32), {}
    size = (WIDTH, HEIGHT, 0.3)
    for device in ("cpu", "cuda"):
        x = on(device, inputs)
        given = (x["means"], None, x["quats"], x["scales"], x["viewmats"], x["Ks"])
        limits = (*size, 0.01, 1e10, 0.0, True, 0)
        rows = torch.ops.mmcity.project_packed_fwd(*given, None, *limits)
        grads = [torch.linspace(-1, 1, t.numel()).view(t.shape).to(device) for t in rows[5:]]
        ids = (rows[4], rows[2], rows[3])
        back = torch.ops.mmcity.project_bwd(*given, *ids, *size, 0, *grads, True, True)
        results[device] = (*rows, *back)
    for got, want in zip(results["cuda"], results["cpu"]):
        assert got.shape == want.shape and relative(got, want) < 1e-4


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("mode", ["dense", "masked", "unique", "repeated", "scattered"])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("values", [3, 7])
def test_harmonics(deterministic, mode, split, values, cuda_determinism):
    cuda_determinism(deterministic)
    n, cameras, chosen = 500, 3, {}
    inputs = {
        key: value
        for key, value in random_scene(n=n, cameras=cameras, dtype=torch.float32).items()
        if key in ("means", "viewmats")
    }
    inputs["coeffs"] = torch.randn(n, 16, values)
    if mode == "masked":
        chosen["masks"] = torch.rand(cameras, n) > 0.4
    elif mode == "unique":
        rows = torch.randperm(n)[:300].sort()[0]
        chosen = {"gaussian_ids": rows, "camera_ids": torch.ones_like(rows)}
    elif mode in ("repeated", "scattered"):
        camera_ids, gaussian_ids = (torch.rand(cameras, n) > 0.4).nonzero().unbind(1)
        order = torch.arange(len(camera_ids))
        if mode == "scattered":
            order = torch.randperm(len(camera_ids))
        chosen = {"gaussian_ids": gaussian_ids[order], "camera_ids": camera_ids[order]}

    def run(means, viewmats, coeffs):
        given = (coeffs[:, :1], coeffs[:, 1:]) if split else coeffs
        on_device = {key: value.to(means.device) for key, value in chosen.items()}
        return (ops.spherical_harmonics(3, means, viewmats, given, **on_device),)

    compare(run, inputs, ("means", "viewmats", "coeffs"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGB+ED+N+P", "D"])
@pytest.mark.parametrize("bounds", ["ellipse", "aabb"])
@pytest.mark.parametrize("kind", ["classic", "antialiased"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_renders_of_harmonics(packed, mode, bounds, kind, deterministic, cuda_determinism):
    cuda_determinism(deterministic)
    inputs = random_scene(n=300, cameras=3, dtype=torch.float32, sh=16)
    inputs["backgrounds"] = torch.rand(3, 3)

    def run(backgrounds, **splats):
        return ops.rasterization(
            **splats, width=WIDTH, height=HEIGHT, packed=packed, render_mode=mode, sh_degree=3,
            backgrounds=backgrounds, tile_bounds=bounds, rasterize_mode=kind,
        )[:2]  # fmt: skip

    grads = (*GEOMETRY, "opacities", *(("colors", "backgrounds") if "RGB" in mode else ()))
    compare(run, inputs, grads, outliers=5e-3, l2=3e-3)


@pytest.mark.parametrize("model", ["ortho", "fisheye"])
def test_renders_of_what_lies_behind_the_camera(model):
    inputs = scene()
    inputs["viewmats"] = inputs["viewmats"].clone()
    inputs["viewmats"][:, 2, 3] = 0.3 if model == "ortho" else 2.0
    near = -1e10 if model == "ortho" else 0.01

    def run(**splats):
        return ops.rasterization(
            **splats, width=WIDTH, height=HEIGHT, packed=False, camera_model=model, near_plane=near
        )[:2]

    compare(run, inputs, (*GEOMETRY, "opacities", "colors"), outliers=2e-3)


@pytest.mark.parametrize("packed", [False, True])
def test_statistics_of_a_render(packed):
    inputs, results = scene(), {}
    for device in ("cpu", "cuda"):
        x = on(device, inputs, ("means",))
        renders, alphas, meta = ops.rasterization(
            **x, width=WIDTH, height=HEIGHT, packed=packed, semantics="inria", stats=True,
            absgrad=True,
        )  # fmt: skip
        meta["means2d"].retain_grad()
        (renders.square().sum() + alphas.sum()).backward()
        stats = ops.accumulate_densify_stats({}, meta)
        own = [meta["max_weight"], meta["n_touched"].float()]
        results[device] = [renders, x["means"].grad, *own, *(stats[k] for k in sorted(stats))]
    for got, want in zip(results["cuda"], results["cpu"]):
        assert relative(got, want) < 2e-3


@pytest.mark.parametrize("packed", [False, True])
def test_renders_of_nothing_are_the_background(packed):
    n0 = {"means": (0, 3), "quats": (0, 4), "scales": (0, 3), "opacities": (0,), "colors": (0, 3)}
    x = {key: torch.zeros(shape, device="cuda", requires_grad=True) for key, shape in n0.items()}
    x["viewmats"] = torch.eye(4).expand(2, 4, 4).contiguous().cuda().requires_grad_()
    x["Ks"] = torch.eye(3).expand(2, 3, 3).contiguous().cuda()
    backgrounds = torch.ones(2, 3, device="cuda")
    renders, alphas, _ = ops.rasterization(
        **x, width=WIDTH, height=HEIGHT, packed=packed, backgrounds=backgrounds
    )
    (renders.sum() + alphas.sum()).backward()
    assert torch.equal(renders.cpu(), torch.ones(2, HEIGHT, WIDTH, 3))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("deterministic", [False, True])
def test_renders_of_what_nobody_sees_are_empty(packed, deterministic, cuda_determinism):
    cuda_determinism(deterministic)
    inputs = scene()
    inputs["means"] = inputs["means"] - torch.tensor([0, 0, 1000.0])
    x = on("cuda", inputs, (*GEOMETRY, "opacities", "colors"))
    renders, alphas, _ = ops.rasterization(**x, width=WIDTH, height=HEIGHT, packed=packed)
    (renders.sum() + alphas.sum()).backward()
    assert not renders.any() and not x["means"].grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_renders_under_autocast_stay_float32(dtype):
    x = on("cuda", scene(), ("means", "colors"))
    with torch.autocast("cuda", dtype=dtype):
        renders, _, _ = ops.rasterization(**x, width=WIDTH, height=HEIGHT)
        images = renders.permute(0, 3, 1, 2)
        loss = ops.fused_ssim(images, torch.zeros_like(images))
    assert renders.dtype == torch.float32
    (renders.sum() + loss).backward()
    assert x["means"].grad.dtype == torch.float32


@pytest.mark.parametrize("channels", [1, 3, 14, 40])
@pytest.mark.parametrize("ts", [8, 16, 32])
@pytest.mark.parametrize("deterministic", [False, True])
def test_surfels_with_masks(channels, ts, deterministic, cuda_determinism):
    cuda_determinism(deterministic)
    inputs = random_scene(n=200, cameras=2, dtype=torch.float32)
    inputs["colors"], inputs["backgrounds"] = torch.rand(200, channels), torch.rand(2, channels)
    masks = torch.rand(2, -(-HEIGHT // ts), -(-WIDTH // ts)) > 0.25

    def run(**splats):
        renders, alphas, meta = ops.rasterization_2dgs(
            **splats, width=WIDTH, height=HEIGHT, tile_size=ts, render_mode="RGB+D",
            masks=masks.to(splats["means"].device),
        )  # fmt: skip
        return renders, alphas, meta["normals"], meta["distortion"], meta["median_depth"]

    grads = ("means", "quats", "scales", "opacities", "colors", "backgrounds")
    compare(run, inputs, grads, outliers=1e-2, l2=1e-2)
