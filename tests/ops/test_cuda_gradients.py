"""Each input alone with a gradient, each output alone in the loss: CUDA against the CPU."""

import itertools

import pytest
import torch

import mmcity_ops as ops
from tests.ops.compare import GEOMETRY, NEEDS_CUDA, lists_of, on, projected, scene
from tests.ops.scene import HEIGHT, WIDTH, random_scene

pytestmark = NEEDS_CUDA


def gradients(function, inputs, names, device):
    """Gradients of the inputs ``names`` by output: of all outputs together, then of each."""
    x = on(device, inputs, names)
    outputs = [o for o in function(**x) if o is not None and o.requires_grad]
    weights = [torch.linspace(0.5, 1.5, o.numel()).view(o.shape).to(device) for o in outputs]
    sums = [(o * w).sum() for o, w in zip(outputs, weights)]
    leaves = [x[name] for name in names]
    for loss in (sum(sums), *sums):
        grads = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
        zeros = (torch.zeros_like(leaf) for leaf in leaves)
        yield [(z if g is None else g).cpu().double() for g, z in zip(grads, zeros)]


def check_subsets(function, inputs, names, l2=2e-3, absolute=1e-5):
    """Each input, each pair and all of them, from all outputs and from each."""
    for wanted in (*((n,) for n in names), tuple(names), *itertools.combinations(names, 2)):
        both = [gradients(function, inputs, wanted, device) for device in ("cuda", "cpu")]
        for output, rows in enumerate(zip(*both, strict=True)):
            for name, got, want in zip(wanted, *rows):
                error, size = float((got - want).norm()), float(want.norm())
                assert error <= l2 * size + absolute, (wanted, output, name, error, size)


@pytest.mark.parametrize("channels", [1, 3, 16, 20, 33])
@pytest.mark.parametrize("deterministic", [False, True])
def test_compositing(channels, deterministic, cuda_determinism):
    cuda_determinism(deterministic)
    rows = projected(1500, channels=channels, size=40)
    rows["opacities"] = rows["opacities"] * 0.15 + 0.005  # many splats share a pixel
    lists = lists_of(rows, size=40)
    inputs = {key: rows[key] for key in ("means2d", "conics", "colors", "opacities")}
    inputs["backgrounds"] = torch.rand(1, channels)

    def run(means2d, conics, colors, opacities, backgrounds):
        offsets, ids = (x.to(means2d.device) for x in (lists.isect_offsets, lists.flatten_ids))
        return ops.rasterize_to_pixels(
            means2d[None], conics[None], colors[None], opacities[None], 40, 40, 16, offsets, ids,
            backgrounds=backgrounds,
        )  # fmt: skip

    check_subsets(run, inputs, tuple(inputs))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("cameras", [1, 2])
def test_projection(packed, deterministic, cameras, cuda_determinism):
    cuda_determinism(deterministic)
    inputs = random_scene(n=150, cameras=cameras, dtype=torch.float32)

    def run(means, quats, scales, viewmats, Ks):
        return ops.fully_fused_projection(
            means, None, quats, scales, viewmats, Ks, WIDTH, HEIGHT, packed=packed,
            calc_compensations=True,
        )[-4:]  # fmt: skip

    check_subsets(run, {key: inputs[key] for key in (*GEOMETRY, "Ks")}, GEOMETRY)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("degree", [0, 2])
def test_harmonics(packed, deterministic, degree, cuda_determinism):
    cuda_determinism(deterministic)
    inputs, chosen = random_scene(n=100, cameras=2, dtype=torch.float32), {}
    inputs = {key: inputs[key] for key in ("means", "viewmats")}
    inputs["base"], inputs["rest"] = torch.randn(100, 1, 3), torch.randn(100, 8, 3)
    if packed:
        camera_ids, gaussian_ids = (torch.rand(2, 100) > 0.4).nonzero().unbind(1)
        chosen = dict(camera_ids=camera_ids, gaussian_ids=gaussian_ids)

    def run(means, viewmats, base, rest):
        on_device = {key: value.to(means.device) for key, value in chosen.items()}
        return (ops.spherical_harmonics(degree, means, viewmats, (base, rest), **on_device),)

    check_subsets(run, inputs, tuple(inputs))


@pytest.mark.parametrize("packed", [False, True])
def test_planes_of_gaussians(packed):
    inputs, rows = scene(), torch.arange(0, 400, 3)
    ids = (rows // 200, rows % 200) if packed else (None, None)

    def run(means, quats, scales, viewmats):
        on_device = [None if x is None else x.to(means.device) for x in ids]
        return (ops.plane_features(means, quats, scales, viewmats, *on_device),)

    inputs = {key: inputs[key] for key in GEOMETRY}
    check_subsets(run, inputs, ("means", "quats", "viewmats"))


def test_depth_of_blended_planes():
    inputs = dict(
        normals=torch.rand(2, 20, 30, 3) - torch.tensor([0.5, 0.5, 0.9]),
        distances=torch.rand(2, 20, 30, 1),
        alphas=torch.rand(2, 20, 30, 1),
        Ks=torch.tensor([[30.0, 0, 15], [0, 30, 10], [0, 0, 1]]).expand(2, 3, 3).contiguous(),
    )
    check_subsets(ops.plane_depth, inputs, ("normals", "distances"), l2=1e-2)


@pytest.mark.parametrize("deterministic", [False, True])
def test_surfels(deterministic, cuda_determinism):
    cuda_determinism(deterministic)
    inputs = random_scene(n=60, cameras=2, dtype=torch.float32)
    inputs["colors"], inputs["backgrounds"] = torch.rand(60, 5), torch.rand(2, 5)

    def run(**splats):
        renders, alphas, meta = ops.rasterization_2dgs(**splats, width=WIDTH, height=HEIGHT)
        return renders, alphas, meta["normals"], meta["distortion"], meta["median_depth"]

    check_subsets(run, inputs, ("means", "opacities", "colors", "backgrounds"), l2=1e-2)


def test_gaussians_to_voxels():
    inputs = dict(
        means=(torch.rand(60, 3) - 0.5) * 8,
        opacities=torch.rand(60),
        quats=torch.randn(60, 4),
        scales=torch.rand(60, 3) * 0.7 + 0.1,
        features=torch.rand(60, 5),
    )

    def run(means, opacities, quats, scales, features):
        return ops.gaussians_to_voxels(
            means, opacities, features, quats=quats, scales=scales,
            vol_range=[-4, -4, -1, 4, 4, 2.2], voxel_size=0.55,
        )  # fmt: skip

    check_subsets(run, inputs, tuple(inputs))


@pytest.mark.parametrize("probabilistic", [False, True])
def test_semantic_splats(probabilistic):
    inputs = dict(
        points=(torch.rand(300, 3) - 0.5) * 8.5,
        means=(torch.rand(50, 3) - 0.5) * 8,
        quats=torch.randn(50, 4),
        scales=torch.rand(50, 3) * 0.5 + 0.1,
        opacities=torch.rand(50),
        semantics=torch.rand(50, 18),
    )

    def run(points, means, quats, scales, opacities, semantics):
        out = ops.semantic_splat(
            points, means, (quats, scales), opacities, semantics, vol_range=[-4, -4, -4, 4, 4, 4],
            voxel_size=0.4, grid_shape=[20, 20, 20], probabilistic=probabilistic,
        )  # fmt: skip
        return out if probabilistic else (out,)

    check_subsets(run, inputs, ("means", "quats", "scales", "opacities", "semantics"))


@pytest.mark.parametrize("reduce", ["mean", "sum", "max"])
def test_points_of_a_voxel(reduce):
    coors = torch.randint(-1, 4, (300, 3), dtype=torch.int32)

    def run(features):
        return ops.scatter_reduce_voxels(features, coors.to(features.device), reduce)

    check_subsets(run, {"features": torch.randn(300, 5)}, ("features",))


def test_ssim():
    inputs = dict(a=torch.rand(2, 3, 20, 40), b=torch.rand(2, 3, 20, 40))
    check_subsets(lambda a, b: ops.fused_ssim(a, b, return_map=True), inputs, ("a", "b"))


def test_covariances():
    inputs = {key: scene()[key] for key in ("quats", "scales")}
    check_subsets(ops.quat_scale_to_covar_preci, inputs, ("quats", "scales"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("degree", [None, 3])
def test_renders(packed, degree):
    inputs = random_scene(n=200, cameras=2, dtype=torch.float32, sh=16)
    if degree is None:
        inputs["colors"] = torch.rand(200, 20)

    def run(**splats):
        return ops.rasterization(
            **splats, width=WIDTH, height=HEIGHT, packed=packed, sh_degree=degree,
            render_mode="RGB+D",
        )[:2]  # fmt: skip

    check_subsets(run, inputs, (*GEOMETRY, "opacities", "colors"), l2=5e-3)
