"""Neighbours, SSIM, voxels, points and TSDF on CUDA against the CPU: sizes, limits."""

import pytest
import torch

import mmcity_ops as ops
from tests.ops.compare import NEEDS_CUDA, compare, on, relative

pytestmark = NEEDS_CUDA
NAN, INF = float("nan"), float("inf")


def check_neighbours(points, k=3):
    got, want = ops.knn_mean_dist2(points.cuda(), k).cpu(), ops.knn_mean_dist2(points, k)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("k", [1, 3, 5, 8, 20, 32, 50, 128])
@pytest.mark.parametrize("n", [1, 2, 16, 17, 33, 300, 2000])
def test_neighbours(k, n):
    points = torch.randn(n, 3)
    if n > 20:
        points[5:9] = points[4]
        points[10, 0] = INF
        points[11] = NAN
    check_neighbours(points, k)


def test_neighbours_of_degenerate_points():
    stretched = torch.rand(500, 3) * torch.tensor([1e-20, 1, 1e20])
    for points in (torch.full((40, 3), NAN), torch.zeros(100, 3), torch.zeros(0, 3), stretched):
        check_neighbours(points)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 16, 32), (1, 2, 17, 33), (3, 1, 5, 100)])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("grads", [("a", "b"), ("a",)])
def test_ssim_of_small_images(shape, padding, grads):
    if padding == "valid" and min(shape[2:]) < 11:
        pytest.skip("no window fits into the image")
    inputs = {"a": torch.rand(shape), "b": torch.rand(shape)}
    compare(lambda a, b: (ops.fused_ssim(a, b, padding=padding),), inputs, grads)


@pytest.mark.parametrize("channels", [None, 1, 8, 9, 70])
@pytest.mark.parametrize("normalize", [True, False])
def test_voxels_of_broken_gaussians(channels, normalize):
    n, results = 70, {}
    inputs = dict(
        means=(torch.rand(n, 3) - 0.5) * 12,
        opacities=torch.rand(n),
        quats=torch.randn(n, 4),
        scales=torch.rand(n, 3) * 0.7 + 0.05,
    )
    inputs["means"][3], inputs["means"][4] = NAN, 1e9
    inputs["scales"][5] = torch.tensor([1e-6, 1.0, 1e-6])
    inputs["scales"][6], inputs["scales"][7] = 0.0, 50.0
    kept = [row for row in range(n) if row not in (5, 6)]  # of the thin ones gradients explode
    if channels:
        inputs["features"] = torch.rand(n, channels)
    for device in ("cpu", "cuda"):
        x = on(device, inputs, inputs)
        means, opacities, features = x["means"], x["opacities"], x.get("features")
        out = ops.gaussians_to_voxels(
            means, opacities, features, quats=x["quats"], scales=x["scales"],
            vol_range=[-4, -4, -1, 4, 4, 2.2], voxel_size=0.55, normalize=normalize,
        )  # fmt: skip
        out = [value for value in out if value is not None]
        weights = [torch.linspace(0.5, 1.5, o.numel()).view(o.shape).to(device) for o in out]
        sum((o * w).sum() for o, w in zip(out, weights)).backward()
        results[device] = [*out, *(x[key].grad[kept] for key in inputs)]
    for got, want in zip(results["cuda"], results["cpu"]):
        assert torch.equal(got.isnan().cpu(), want.isnan())
        assert relative(got.nan_to_num(), want.nan_to_num()) < 1e-3


@pytest.mark.parametrize("probabilistic", [False, True])
@pytest.mark.parametrize("classes", [1, 18, 40])
@pytest.mark.parametrize("n", [0, 60])
@pytest.mark.parametrize("n_points", [0, 500])
def test_semantic_splats(probabilistic, classes, n, n_points):
    inputs = dict(
        points=(torch.rand(n_points, 3) - 0.5) * 9,
        means=(torch.rand(n, 3) - 0.5) * 8,
        quats=torch.randn(n, 4),
        scales=torch.rand(n, 3) * 0.5 + 0.1,
        opacities=torch.rand(n),
        semantics=torch.rand(n, classes),
    )
    if n_points:
        inputs["points"][0] = NAN
        inputs["points"][1:40] = 0.1

    def run(points, means, quats, scales, opacities, semantics):
        out = ops.semantic_splat(
            points, means, (quats, scales), opacities, semantics, vol_range=[-4, -4, -4, 4, 4, 4],
            voxel_size=0.4, grid_shape=[20, 20, 20], probabilistic=probabilistic,
        )  # fmt: skip
        return out if probabilistic else (out,)

    grads = ("means", "quats", "scales", "opacities", "semantics")
    compare(run, inputs, grads, outliers=2e-3)


@pytest.mark.parametrize("n", [0, 1, 2500])
@pytest.mark.parametrize("axes", [3, 4])
@pytest.mark.parametrize("reduce", ["mean", "sum", "max"])
def test_points_of_a_voxel(n, axes, reduce):
    coors = torch.randint(-1, 6, (n, axes), dtype=torch.int32)
    features = torch.randn(n, 5)
    wanted = ops.scatter_reduce_voxels(features, coors, reduce)
    for got, want in zip(ops.scatter_reduce_voxels(features.cuda(), coors.cuda(), reduce), wanted):
        torch.testing.assert_close(got.cpu(), want)


@pytest.mark.parametrize("n", [0, 1, 2500])
@pytest.mark.parametrize("limits", [(1, 1), (5, 100000)])
def test_voxels_of_few_points(n, limits):
    points = torch.cat([(torch.rand(n, 3) - 0.5) * 10, torch.rand(n, 1)], 1)
    grid = ([0.5, 0.5, 0.8], [-4, -4, -2, 4, 4, 2.0])
    wanted = ops.voxelize_hard(points, *grid, *limits)
    for got, want in zip(ops.voxelize_hard(points.cuda(), *grid, *limits), wanted):
        assert torch.equal(got.cpu(), want)


@pytest.mark.parametrize(
    "shape", [{"block_size": 16}, {"dims": (5, 300, 7)}], ids=["sparse", "dense"]
)
@pytest.mark.parametrize("color", [False, True])
def test_tsdf_of_masked_views_with_weights(shape, color):
    K = torch.tensor([[30.0, 0, 20], [0, 30.0, 16], [0, 0, 1]])
    view = torch.eye(4)
    view[2, 3] = 2.0
    depth, image = 2.0 + 0.3 * torch.rand(32, 40), torch.rand(32, 40, 3)
    mask = torch.rand(32, 40) > 0.3
    volumes = []
    for device in ("cpu", "cuda"):
        volume = ops.TSDFVolume((-0.6, -0.6, -0.6), 0.05, 0.2, device=device, color=color, **shape)
        for weight in (1.0, 2.5):
            given = [x.to(device) for x in (depth, image, K, view)]
            given[1] = given[1] if color else None
            volume.integrate(*given, mask=mask.to(device), weight=weight, max_depth=2.25)
        volumes.append(volume)
    want, got = volumes
    assert torch.equal(got.blocks.cpu(), want.blocks)
    # A voxel on the edge of two pixels may fall into either, by the rounding of its place.
    same = got.weight.cpu() == want.weight
    same &= (got.tsdf.cpu() - want.tsdf).abs() < 1e-3
    assert float((~same).float().mean()) < 2e-3, (~same).sum()
