"""CUDA operators against the CPU ones, forward and gradients. Needs a GPU."""

import pytest
import torch

import mmcity_ops as ops
from mmcity_ops.functional.intersection import force_wide_ids
from tests.ops.compare import (
    GEOMETRY,
    NEEDS_CUDA,
    compare,
    lists_of,
    on,
    projected,
    relative,
    scene,
)
from tests.ops.scene import HEIGHT, WIDTH

pytestmark = NEEDS_CUDA


def test_covariances():
    inputs = {key: scene()[key] for key in ("quats", "scales")}
    compare(lambda quats, scales: ops.quat_scale_to_covar_preci(quats, scales), inputs, inputs)


@pytest.mark.parametrize("camera_model", ["pinhole", "ortho", "fisheye"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("deterministic", [False, True])
def test_projection(camera_model, packed, deterministic, cuda_determinism):
    cuda_determinism(deterministic)
    inputs = {key: scene()[key] for key in (*GEOMETRY, "Ks", "opacities")}

    def run(means, quats, scales, viewmats, Ks, opacities):
        return ops.fully_fused_projection(
            means, None, quats, scales, viewmats, Ks, WIDTH, HEIGHT, opacities=opacities.detach(),
            packed=packed, calc_compensations=True, camera_model=camera_model,
        )  # fmt: skip

    compare(run, inputs, GEOMETRY)


@pytest.mark.parametrize("degree", range(5))
def test_spherical_harmonics(degree):
    inputs = {key: scene()[key] for key in ("means", "viewmats")}
    inputs["coeffs"] = torch.randn(200, (degree + 1) ** 2, 3)

    def run(means, viewmats, coeffs):
        return (ops.spherical_harmonics(degree, means, viewmats, coeffs),)

    grads = ("coeffs",) if degree == 0 else ("means", "viewmats", "coeffs")
    compare(run, inputs, grads)


@pytest.mark.parametrize("packed", [False, True])
def test_planes_of_gaussians(packed):
    inputs = {key: scene()[key] for key in GEOMETRY}
    rows = torch.arange(0, 400, 3)
    ids = (rows // 200, rows % 200) if packed else (None, None)

    def run(means, quats, scales, viewmats):
        on_device = [None if x is None else x.to(means.device) for x in ids]
        return (ops.plane_features(means, quats, scales, viewmats, *on_device),)

    compare(run, inputs, ("means", "quats", "viewmats"))


def test_depth_of_blended_planes():
    generator = torch.Generator().manual_seed(0)
    normals = torch.rand(2, 20, 30, 3, generator=generator) - torch.tensor([0.5, 0.5, 0.9])
    distances, alphas = (torch.rand(2, 20, 30, 1, generator=generator) for _ in range(2))
    Ks = torch.tensor([[30.0, 0, 15], [0, 30, 10], [0, 0, 1]]).expand(2, 3, 3).contiguous()
    inputs = {"normals": normals, "distances": distances, "alphas": alphas, "Ks": Ks}
    compare(ops.plane_depth, inputs, ("normals", "distances"), atol=1e-3, outliers=1e-3)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("n", [0, 1, 300, 20000])
def test_tile_lists(n, wide):
    rows = projected(n)
    if n > 100:
        rows["radii"][0] = 1000  # a splat of all tiles
        rows["conics"][0] = torch.tensor([1e-5, 0.0, 1e-5])
        rows["opacities"][0] = 1.0
    force_wide_ids(wide)
    try:
        want, got = lists_of(rows), lists_of(on("cuda", rows))
    finally:
        force_wide_ids(False)
    for name in want._fields:
        assert torch.equal(getattr(got, name).cpu(), getattr(want, name)), name


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("capacity", [None, 40000])
def test_tile_lists_of_splats_of_many_tiles(masked, capacity):
    rows = projected(60, size=80)
    rows["radii"][:3] = 1000
    rows["means2d"][:3] = torch.tensor([[40.0, 40.0], [31.0, 40.0], [40.0, 9.0]])
    rows["opacities"][:3] = 1.0
    blob, tall, wide = [1e-5, 0.0, 1e-5], [9.0, 0.0, 1e-4], [1e-4, 0.0, 9.0]
    rows["conics"][:3] = torch.tensor([blob, tall, wide])
    masks = torch.rand(1, 40, 40) > 0.05 if masked else None
    want = lists_of(rows, size=80, ts=2, masks=masks, max_isects=capacity)
    masks = None if masks is None else masks.cuda()
    got = lists_of(on("cuda", rows), size=80, ts=2, masks=masks, max_isects=capacity)
    assert 1000 < int(want.n_found) < 40000 and (want.tiles_per_gauss[0, :3] > 32).all()
    n = int(want.n_found)
    for name in want._fields:
        both = [getattr(lists, name).cpu() for lists in (got, want)]
        if name == "isect_ids":  # keys of unused entries are of no use
            both = [x[:n] for x in both]
        assert torch.equal(*both), name


def test_tile_lists_of_fixed_capacity_do_not_synchronise():
    rows = on("cuda", projected())
    exact = lists_of(rows)
    n = int(exact.n_found)
    torch.cuda.set_sync_debug_mode("error")
    try:
        capped = lists_of(rows, max_isects=n + 100)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert int(capped.n_found) == n
    assert torch.equal(capped.flatten_ids[:n], exact.flatten_ids)
    assert (capped.flatten_ids[n:] == -1).all()
    assert torch.equal(capped.isect_offsets, exact.isect_offsets)
    few = lists_of(rows, max_isects=n // 2)  # the deepest splats are dropped, lists stay valid
    assert int(few.n_found) == n and (few.flatten_ids >= 0).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 16, 20, 33, 64, 130])
@pytest.mark.parametrize("deterministic", [False, True])
def test_compositing(channels, deterministic, cuda_determinism):
    cuda_determinism(deterministic)
    rows = projected(channels=channels)
    size, lists = 61, lists_of(rows)
    inputs = {key: rows[key] for key in ("means2d", "conics", "colors", "opacities")}
    inputs["backgrounds"] = torch.linspace(-1, 1, channels)[None]
    inputs["offsets"], inputs["ids"] = lists.isect_offsets, lists.flatten_ids

    def run(means2d, conics, colors, opacities, backgrounds, offsets, ids):
        return ops.rasterize_to_pixels(
            means2d[None], conics[None], colors[None], opacities[None], size, size, 16, offsets,
            ids, backgrounds=backgrounds,
        )  # fmt: skip

    grads = ("means2d", "conics", "colors", "opacities", "backgrounds")
    compare(run, inputs, grads, outliers=1e-3)


@pytest.mark.parametrize("ts", [8, 16, 32])
def test_compositing_of_other_tile_sizes_with_statistics(ts):
    rows = projected()
    results = {}
    for device in ("cpu", "cuda"):
        moved = on(device, rows)
        lists, stats = lists_of(moved, ts=ts), {}
        renders, _ = ops.rasterize_to_pixels(
            moved["means2d"][None], moved["conics"][None], moved["colors"][None],
            moved["opacities"][None], 64, 64, ts, lists.isect_offsets, lists.flatten_ids,
            stats=stats,
        )  # fmt: skip
        results[device] = [renders, stats["max_weight"], stats["n_touched"], stats["last_ids"]]
    for got, want in zip(results["cuda"], results["cpu"]):
        close = (got.cpu().double() - want.double()).abs() <= 1e-4
        assert float(close.float().mean()) >= 0.995


def test_deterministic_gradients_are_the_same_in_every_run(cuda_determinism):
    cuda_determinism(True)
    rows = on("cuda", projected(2000), ("means2d", "conics", "colors", "opacities"))
    lists, seen = lists_of({k: v.detach() for k, v in rows.items()}), []
    for _ in range(3):
        renders, alphas = ops.rasterize_to_pixels(
            rows["means2d"][None], rows["conics"][None], rows["colors"][None],
            rows["opacities"][None], 64, 64, 16, lists.isect_offsets, lists.flatten_ids,
        )  # fmt: skip
        leaves = [rows[key] for key in ("means2d", "conics", "colors", "opacities")]
        seen.append(torch.autograd.grad(renders.square().sum() + alphas.sum(), leaves))
    assert all(torch.equal(a, b) for other in seen[1:] for a, b in zip(seen[0], other))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGB+ED"])
def test_whole_renders(packed, mode):
    inputs = scene()

    def run(means, quats, scales, opacities, colors, viewmats, Ks):
        return ops.rasterization(
            means, quats, scales, opacities, colors, viewmats, Ks, WIDTH, HEIGHT, packed=packed,
            render_mode=mode,
        )[:2]  # fmt: skip

    compare(run, inputs, (*GEOMETRY, "opacities", "colors"), outliers=2e-3)


def test_surfels():
    inputs = scene()

    def run(means, quats, scales, opacities, colors, viewmats, Ks):
        return ops.rasterization_2dgs(
            means, quats, scales, opacities, colors, viewmats, Ks, WIDTH, HEIGHT
        )[:2]

    compare(run, inputs, ("means", "quats", "scales", "opacities", "colors"), outliers=5e-3)


@pytest.mark.parametrize("shape", [(1, 1, 11, 11), (2, 3, 45, 70)])
def test_ssim(shape):
    inputs = {"a": torch.rand(shape), "b": torch.rand(shape)}
    compare(lambda a, b: (ops.fused_ssim(a, b),), inputs, ("a", "b"))


@pytest.mark.parametrize("n", [1, 2, 17, 5000])
def test_knn(n):
    points = torch.randn(n, 3)
    if n > 10:
        points[3] = points[4]
        points[5, 1] = float("nan")
    want, got = ops.knn_mean_dist2(points), ops.knn_mean_dist2(points.cuda()).cpu()
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("channels", [None, 5, 18, 40])
def test_gaussians_to_voxels(channels):
    inputs = dict(
        means=(torch.rand(2, 60, 3) - 0.5) * 8,
        opacities=torch.rand(2, 60),
        quats=torch.randn(2, 60, 4),
        scales=torch.rand(2, 60, 3) * 0.7 + 0.1,
    )
    if channels:
        inputs["features"] = torch.rand(2, 60, channels)

    def run(means, opacities, quats, scales, features=None):
        return ops.gaussians_to_voxels(
            means, opacities, features, quats=quats, scales=scales,
            vol_range=[-4, -4, -1, 4, 4, 2.2], voxel_size=0.4,
        )  # fmt: skip

    compare(run, inputs, tuple(inputs), outliers=1e-3)


@pytest.mark.parametrize("probabilistic", [False, True])
def test_semantic_splat(probabilistic):
    inputs = dict(
        points=(torch.rand(700, 3) - 0.5) * 8.5,
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

    grads = ("means", "quats", "scales", "opacities", "semantics")
    compare(run, inputs, grads, outliers=1e-3)


def test_points_to_voxels():
    points = torch.cat([(torch.rand(3000, 3) - 0.5) * 10, torch.rand(3000, 2)], 1)
    args = ([0.5, 0.5, 0.8], [-4, -4, -2, 4, 4, 2.0])
    moved = points.cuda()
    coors = ops.voxelize_dynamic(points, *args)
    assert torch.equal(ops.voxelize_dynamic(moved, *args).cpu(), coors)
    for limits in ((5, 10000), (3, 40)):
        want = ops.voxelize_hard(points, *args, *limits)
        got = ops.voxelize_hard(moved, *args, *limits)
        assert all(torch.equal(a.cpu(), b) for a, b in zip(got, want))
    for reduce in ("mean", "sum", "max"):
        leaves = [x[:, 3:].clone().requires_grad_() for x in (points, moved)]
        want = ops.scatter_reduce_voxels(leaves[0], coors, reduce)
        got = ops.scatter_reduce_voxels(leaves[1], coors.cuda(), reduce)
        assert all(torch.equal(a.cpu(), b) for a, b in zip(got[1:], want[1:]))
        torch.testing.assert_close(got[0].cpu(), want[0])
        want[0].square().sum().backward()
        got[0].square().sum().backward()
        torch.testing.assert_close(leaves[1].grad.cpu(), leaves[0].grad)


@pytest.mark.parametrize("sparse", [False, True])
def test_tsdf(sparse):
    K = torch.tensor([[30.0, 0, 20], [0, 30.0, 16], [0, 0, 1]])
    view = torch.eye(4)
    view[2, 3] = 2.0
    depth = 2.0 + 0.3 * torch.rand(32, 40)
    color = torch.rand(32, 40, 3)
    shape = {"block_size": 8} if sparse else {"dims": (24, 24, 24)}
    meshes = []
    for device in ("cpu", "cuda"):
        volume = ops.TSDFVolume((-0.6, -0.6, -0.6), 0.05, 0.2, device=device, **shape)
        volume.integrate(depth.to(device), color.to(device), K.to(device), view.to(device))
        meshes.append(volume.extract_mesh())
    for got, want in zip(*reversed(meshes)):
        got, want = torch.as_tensor(got).cpu(), torch.as_tensor(want).cpu()
        assert got.shape == want.shape
        assert float((got.double() - want.double()).abs().max()) < 1e-3


def test_sparse_tsdf_and_meshes_take_the_native_operators(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the reference ran")

    monkeypatch.setattr("mmcity_ops.reference.tsdf.tsdf_touched_blocks", refuse)
    monkeypatch.setattr("mmcity_ops.reference.marching_cubes.marching_cubes", refuse)
    depth, K, view = (
        torch.full((16, 16), 2.0),
        torch.diag(torch.tensor([9.0, 9.0, 1])),
        torch.eye(4),
    )
    volume = ops.TSDFVolume((0.0, 0.0, 0.0), 0.1, device="cuda", color=False)
    volume.integrate(depth.cuda(), None, K.cuda(), view.cuda())
    vertices, faces, _ = volume.extract_mesh()
    assert vertices.is_cuda and faces.is_cuda and len(faces)
    assert float((vertices[:, 2] - 2).abs().max()) < 1e-3


def test_meshes_of_scikit_image_lie_where_the_volume_does():
    pytest.importorskip("skimage")
    values = torch.randn(6, 6, 6, device="cuda")
    mesh = ops.extract_mesh(
        values, torch.ones_like(values), values[..., None].expand(6, 6, 6, 3).contiguous(),
        origin=[0, 0, 0], voxel_size=0.1, method="skimage",
    )  # fmt: skip
    assert all(part.is_cuda and len(part) for part in mesh)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_reference_fuses_and_meshes_on_cuda(sparse, monkeypatch):
    monkeypatch.setenv("MMCITY_OPS_BACKEND", "reference")
    depth, K = 1.0 + torch.rand(8, 8), torch.diag(torch.tensor([9.0, 9.0, 1]))
    shape = {} if sparse else {"dims": (8, 8, 16)}
    meshes = []
    for device in ("cpu", "cuda"):
        volume = ops.TSDFVolume((0.0, 0.0, 0.5), 0.1, device=device, color=False, **shape)
        view = (x.to(device) for x in (K, torch.eye(4)))
        volume.integrate(depth.to(device), None, *view)
        meshes.append(volume.extract_mesh()[0].cpu())
    torch.testing.assert_close(*meshes)


def test_culling_and_levels_of_detail():
    inputs = scene()
    points, radii = inputs["means"] * 4, inputs["scales"][:, 0]
    views = (inputs["viewmats"], inputs["Ks"], WIDTH, HEIGHT, 0.1, 10.0)
    seen = ops.frustum_cull(points, None, *views)
    points[-1] = points[seen[0] != seen[1]][0]  # memory that nobody writes is wrong in one view
    for r in (None, radii):
        want = ops.frustum_cull(points, r, *views)
        moved = [x.cuda() if isinstance(x, torch.Tensor) else x for x in (points, r, *views)]
        assert torch.equal(ops.frustum_cull(*moved).cpu(), want)
    levels, extra = torch.randint(0, 5, (200,)), torch.rand(200)
    centers = torch.randn(2, 3)
    settings = dict(voxel_size=0.5, fork=2, n_levels=5, standard_dist=6.0)
    for mode in ("floor", "round", "ceil", "progressive"):
        want = ops.select_lod(points, levels, extra, centers, mode=mode, **settings)
        moved = [x.cuda() for x in (points, levels, extra, centers)]
        got = ops.select_lod(*moved, mode=mode, **settings)
        for a, b in zip(got, want):
            assert (a is None) == (b is None)
            if b is not None:
                torch.testing.assert_close(a.cpu(), b, rtol=1e-4, atol=1e-4)


def test_selective_adam():
    values = [torch.randn(50, 4) for _ in range(2)]
    visible = torch.rand(50) < 0.5
    states = []
    for device in ("cpu", "cuda"):
        param, grad = (x.clone().to(device) for x in values)
        m, v = torch.zeros_like(param), torch.zeros_like(param)
        for step in (1, 2):
            ops.selective_adam(param, grad, m, v, visible.to(device), 0.01, step=step)
        states.append([x.cpu() for x in (param, m, v)])
    for got, want in zip(states[1], states[0]):
        torch.testing.assert_close(got, want)


def test_a_render_compiles_into_one_graph():
    inputs = on("cuda", scene(), ("means",))

    def loss(means):
        rest = {key: value for key, value in inputs.items() if key != "means"}
        renders, alphas, _ = ops.rasterization(means, width=WIDTH, height=HEIGHT, **rest)
        return renders.square().sum() + alphas.sum()

    want = loss(inputs["means"])
    # inductor writes kernels for a real GPU alone
    backend = "inductor" if torch.version.cuda else "aot_eager"
    got = torch.compile(loss, fullgraph=True, backend=backend)(inputs["means"])
    assert relative(got, want) < 1e-4


def test_float64_is_refused_by_name():
    points = torch.rand(10, 3, dtype=torch.float64, device="cuda")
    with pytest.raises(TypeError, match="expected float32"):
        ops.knn_mean_dist2(points)
