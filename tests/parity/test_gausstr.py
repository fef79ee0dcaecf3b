"""Golden vectors of GaussTR: the voxelizer."""

import pytest
import torch

from mmcity_ops import gaussians_to_voxels
from tests.parity._golden import Golden, assert_close_l2, find_cases

CASES = {path: Golden(path) for path in find_cases("voxelizer", "gausstr")}
GRADIENTS = [path for path, golden in CASES.items() if "cotangent_density" in golden]
VOXELIZER = [path for path in CASES if path not in GRADIENTS]
DENSITY_ATOL, FEATURE_ATOL = 2e-4, 5e-4
FACE_SHARE, FACE_ERROR = 1e-3, 1.2e-2  # voxels on a box face may be decided by rounding


def assert_voxels_close(got, want, atol):
    error = (got.double() - want.double()).abs()
    assert (error > atol).double().mean() <= FACE_SHARE
    assert error.max() <= FACE_ERROR + atol


@pytest.mark.parametrize("shape_by", ["covars", "quats and scales"])
@pytest.mark.parametrize("backend", ["reference", "native"])
@pytest.mark.parametrize("path", VOXELIZER, ids=lambda p: p.stem)
def test_voxelizer(path, backend, shape_by, monkeypatch):
    monkeypatch.setenv("MMCITY_OPS_BACKEND", backend)
    golden = Golden(path, torch.float32)
    if shape_by == "covars":
        shape = {"covars": golden["covariances"]}
    else:
        shape = {"quats": golden["rotations"], "scales": golden["scales"]}
    grid = {"vol_range": golden["vol_range"], "voxel_size": golden["voxel_size"]}
    density, features = gaussians_to_voxels(
        golden["means3d"], golden["opacities"], golden["features"], **shape, **grid
    )
    assert list(density.shape[1:4]) == golden["grid_shape"].tolist()
    assert_voxels_close(density, golden["density"], DENSITY_ATOL)
    assert_voxels_close(features, golden["grid_feats"], FEATURE_ATOL)
    only, none = gaussians_to_voxels(golden["means3d"], golden["opacities"], **shape, **grid)
    assert none is None
    assert_voxels_close(only, golden["density_only"], DENSITY_ATOL)


@pytest.mark.parametrize("backend", ["reference", "native"])
@pytest.mark.parametrize("path", GRADIENTS, ids=lambda p: p.stem)
def test_voxelizer_gradients(path, backend, monkeypatch):
    monkeypatch.setenv("MMCITY_OPS_BACKEND", backend)
    golden = Golden(path, torch.float64)
    names = ("means3d", "opacities", "features", "covariances")
    means, opacities, features, covars = leaves = [golden.leaf(name) for name in names]
    outputs = gaussians_to_voxels(
        means,
        opacities,
        features,
        covars=covars,
        vol_range=golden["vol_range"],
        voxel_size=golden["voxel_size"],
    )
    assert_close_l2("density", outputs[0], golden, "density")
    assert_close_l2("features", outputs[1], golden, "grid_feats")
    cotangents = [golden["cotangent_density"], golden["cotangent_feats"]]
    for name, grad in zip(names, torch.autograd.grad(outputs, leaves, cotangents)):
        assert_close_l2(name, grad, golden, f"grad_{name}")
