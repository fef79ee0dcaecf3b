"""Golden vectors of the image, point and voxel operators."""

import numpy as np
import pytest
import torch

from mmcity_ops import (
    TSDFVolume,
    fused_ssim,
    gaussians_to_voxels,
    knn_mean_dist2,
    quat_scale_to_covar_preci,
    scatter_reduce_voxels,
    semantic_splat,
    voxelize_dynamic,
    voxelize_hard,
)
from tests.parity._golden import DEVICE, Golden, assert_close_l2, vectors

CASES = [
    pytest.param(("reference", torch.float64), id="reference-float64"),
    pytest.param(("native", torch.float64), id="native-float64"),
    pytest.param(("native", torch.float32), id="native-float32"),
]


@pytest.fixture(params=CASES)
def kind(request, monkeypatch):
    """Type under test; the backend is chosen on the way."""
    backend, dtype = request.param
    monkeypatch.setenv("MMCITY_OPS_BACKEND", backend)
    return dtype


def close(got, golden, key, atol=2e-5):
    """Values: relative L2 in float64, absolute in float32."""
    want = torch.from_numpy(np.array(golden.arrays[key])).double()
    assert got.shape == want.shape
    if golden.dtype == torch.float32:
        torch.testing.assert_close(got.detach().double().cpu(), want, rtol=0, atol=atol)
    else:
        assert_close_l2(key, got, golden, key)


@vectors("ssim")
def test_ssim(path, kind):
    golden = Golden(path, kind)
    img1, img2 = golden.leaf("img1"), golden["img2"]

    mean, ssim_map = fused_ssim(img1, img2, return_map=True)
    close(ssim_map, golden, "ssim_map")
    close(mean, golden, "ssim")
    (from_mean,) = torch.autograd.grad(mean, img1, retain_graph=True)
    assert_close_l2("from mean", from_mean, golden, "v_img1_from_mean")
    (from_map,) = torch.autograd.grad(ssim_map, img1, golden["v_map"])
    assert_close_l2("from map", from_map, golden, "v_img1_from_map")

    if "ssim_valid" in golden:
        valid = fused_ssim(img1, img2, padding="valid")
        close(valid, golden, "ssim_valid")
        (grad,) = torch.autograd.grad(valid, img1)
        assert_close_l2("valid", grad, golden, "v_img1_from_mean_valid")


@vectors("knn_mean_dist2")
def test_knn_mean_dist2(path, kind):
    golden = Golden(path, kind)
    got = knn_mean_dist2(golden["points"], golden.scalar("k"))
    assert_close_l2("mean_dist2", got, golden, "mean_dist2")


@vectors("gaussians_to_voxels")
def test_gaussians_to_voxels(path, kind):
    golden = Golden(path, kind)
    names = ("means", "opacities", "features", "quats", "scales")
    leaves = {name: golden.leaf(name) for name in names}
    density, features = gaussians_to_voxels(
        **leaves,
        vol_range=golden["vol_range"],
        voxel_size=golden.scalar("voxel_size"),
        grid_shape=golden["grid_shape"].tolist(),
        eps=golden.scalar("eps"),
    )
    close(density, golden, "density")
    close(features, golden, "features_out")
    cotangents = [golden["v_density"], golden["v_features_out"]]
    grads = torch.autograd.grad([density, features], list(leaves.values()), cotangents)
    for name, grad in zip(names, grads):
        assert_close_l2(name, grad, golden, f"v_{name}")


@vectors("semantic_splat")
def test_semantic_splat(path, kind):
    golden = Golden(path, kind)
    probabilistic = "bin_logits" in golden
    names = ("means", "quats", "scales", "opacities", "semantics")
    leaves = {name: golden.leaf(name) for name in names}
    grid = {
        "vol_range": golden["vol_range"],
        "voxel_size": golden.scalar("voxel_size"),
        "grid_shape": golden["grid_shape"].tolist(),
        "scale_multiplier": golden.scalar("scale_multiplier"),
        "probabilistic": probabilistic,
    }
    shape = (leaves["quats"], leaves["scales"])
    rest = (leaves["opacities"], leaves["semantics"])
    outputs = semantic_splat(golden["points"], leaves["means"], shape, *rest, **grid)
    outputs = outputs if probabilistic else (outputs,)
    output_names = ("logits", "bin_logits", "density") if probabilistic else ("logits",)
    for name, output in zip(output_names, outputs):
        close(output, golden, name)
    cotangents = [golden[f"v_{name}"] for name in output_names]
    grads = torch.autograd.grad(outputs, list(leaves.values()), cotangents)
    for name, grad in zip(names, grads):
        assert_close_l2(name, grad, golden, f"v_{name}")

    if "v_precis" in golden:
        covars, precis = quat_scale_to_covar_preci(golden["quats"], golden["scales"])
        precis.requires_grad_()
        logits = semantic_splat(golden["points"], golden["means"], precis, *rest, **grid)
        (grad,) = torch.autograd.grad(logits, precis, golden["v_logits"])
        assert_close_l2("precis", grad, golden, "v_precis")


@vectors("point_voxelize")
def test_point_voxelize(path, kind):
    golden = Golden(path, torch.float32)  # cells are defined by float32 arithmetic
    points, grid = golden["points"], (golden["voxel_size"], golden["point_cloud_range"])
    assert torch.equal(voxelize_dynamic(points, *grid), golden["dynamic_coors"])
    capacity = (golden.scalar("max_points"), golden.scalar("max_voxels"))
    voxels, coors, counts = voxelize_hard(points, *grid, *capacity)
    assert torch.equal(voxels, golden["hard_voxels"])
    assert torch.equal(coors, golden["hard_coors"])
    assert torch.equal(counts, golden["hard_num_points"])

    golden = Golden(path, kind)
    for reduce in ("sum", "mean", "max"):
        feats = golden.leaf("feats")
        out, coors, point2voxel, counts = scatter_reduce_voxels(
            feats, golden["dynamic_coors"], reduce
        )
        assert torch.equal(coors, golden["scatter_coors"])
        assert torch.equal(point2voxel, golden["point2voxel"])
        assert torch.equal(counts, golden["voxel_counts"])
        close(out, golden, f"scatter_{reduce}")
        (grad,) = torch.autograd.grad(out, feats, golden["v_voxel_feats"])
        assert_close_l2(reduce, grad, golden, f"v_feats_{reduce}")


@vectors("tsdf")
def test_tsdf(path, kind):
    golden = Golden(path, kind)
    volume = TSDFVolume(
        golden["origin"],
        golden.scalar("voxel_size"),
        trunc=golden.scalar("trunc"),
        dims=[golden.scalar("dim")] * 3,
        device=DEVICE,
        dtype=kind,
    )
    for depth, image, viewmat in zip(golden["depths"], golden["colors"], golden["viewmats"]):
        volume.integrate(depth, image, golden["K"], viewmat)
    keep = ~golden["ambiguous"]
    assert torch.equal(volume.weight[keep], golden["weight"].to(kind)[keep])
    torch.testing.assert_close(volume.tsdf[keep], golden["tsdf"][keep], rtol=0, atol=2e-5)
    torch.testing.assert_close(volume.color[keep], golden["rgb"][keep], rtol=0, atol=2e-3)
