"""voxelize_dynamic, voxelize_hard and scatter_reduce_voxels."""

import numpy as np
import pytest
import torch

from mmcity_ops import scatter_reduce_voxels, voxelize_dynamic, voxelize_hard
from tests.conftest import real_data_dir

SIZE, RANGE = [0.5, 1.0, 2.0], [0.0, 0.0, 0.0, 2.0, 4.0, 2.0]
BACKENDS = ["native", "reference"]


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    monkeypatch.setenv("MMCITY_OPS_BACKEND", request.param)
    return request.param


def cloud(n=400, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(n, width, generator=generator) * 5 - 0.5
    points[: n // 2, :3] = points[: n // 2, :3] / 4 + 0.3  # crowded
    return points


def test_cells_are_stored_z_y_x_and_minus_one_outside(backend):
    nan, inf = float("nan"), float("inf")
    points = torch.tensor([[0.6, 3.9, 1.0], [2.0, 0, 0], [-0.01, 0, 0], [nan, 0, 0], [0, inf, 0]])
    assert voxelize_dynamic(points, SIZE, RANGE).tolist() == [[0, 3, 1]] + [[-1] * 3] * 4
    assert voxelize_dynamic(points[:0], SIZE, RANGE).shape == (0, 3)


def test_hard_keeps_first_come_order_and_drops_the_rest(backend):
    cells = torch.tensor([3, 1, 3, 3, 0, 1, 2])  # x cells
    points = torch.stack([cells * 0.5 + 0.25, *torch.full((2, 7), 0.5), torch.arange(7.0)], 1)
    voxels, coors, counts = voxelize_hard(points, SIZE, RANGE, max_points=2, max_voxels=3)
    assert coors.tolist() == [[0, 0, 3], [0, 0, 1], [0, 0, 0]]
    assert counts.tolist() == [2, 2, 1]
    assert voxels[..., 3].tolist() == [[0, 2], [1, 5], [4, 0]]


def test_hard_equals_the_reference(monkeypatch):
    points = cloud()
    native = voxelize_hard(points, SIZE, RANGE, 3, 10)
    monkeypatch.setenv("MMCITY_OPS_BACKEND", "reference")
    for ours, theirs in zip(native, voxelize_hard(points, SIZE, RANGE, 3, 10)):
        assert torch.equal(ours, theirs)


def test_hard_gradient_reaches_the_points_kept(backend):
    points = cloud(40).requires_grad_()
    voxels, _, counts = voxelize_hard(points, SIZE, RANGE, 2, 5)
    voxels.sum().backward()
    assert set(points.grad.unique().tolist()) == {0, 1}
    assert points.grad[:, 0].sum() == counts.sum()


def test_scatter_sums_means_and_maxima(backend):
    coors = torch.tensor([[0, 1, 0], [0, 0, 2], [-1, -1, -1], [0, 1, 0]], dtype=torch.int32)
    feats = torch.tensor([[1.0, 5], [2, 2], [9, 9], [3, 4]], requires_grad=True)
    for reduce, first in (("sum", [4, 9]), ("mean", [2, 4.5]), ("max", [3, 5])):
        out, voxels, point2voxel, counts = scatter_reduce_voxels(feats, coors, reduce)
        assert voxels.tolist() == [[0, 0, 2], [0, 1, 0]]
        assert point2voxel.tolist() == [1, 0, -1, 1]
        assert counts.tolist() == [1, 2]
        assert out.tolist() == [[2, 2], first]
        (grad,) = torch.autograd.grad(out[1].sum(), feats)
        share = {"sum": [1, 1], "mean": [0.5, 0.5], "max": None}[reduce]
        expected = [[0, 1], [0, 0], [0, 0], [1, 0]]
        if share:
            expected = [share, [0, 0], [0, 0], share]
        assert grad.tolist() == expected


@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
def test_scatter_gradcheck_and_batch_column(reduce):
    generator = torch.Generator().manual_seed(1)
    coors = torch.randint(-1, 3, (30, 4), generator=generator, dtype=torch.int32)
    feats = torch.rand(30, 3, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: scatter_reduce_voxels(x, coors, reduce)[0], feats)


def test_scatter_ties_go_to_the_lowest_index():
    feats = torch.ones(3, 1, requires_grad=True)
    out = scatter_reduce_voxels(feats, torch.zeros(3, 3, dtype=torch.int32), "max")[0]
    out.sum().backward()
    assert feats.grad[:, 0].tolist() == [1, 0, 0]


def test_all_points_outside_and_none(backend):
    nothing = torch.full((4, 3), -1, dtype=torch.int32)
    out, voxels, point2voxel, counts = scatter_reduce_voxels(torch.ones(4, 2), nothing)
    assert out.shape == (0, 2) and voxels.shape == (0, 3) and counts.shape == (0,)
    assert point2voxel.tolist() == [-1] * 4
    voxels, coors, counts = voxelize_hard(cloud()[:0], SIZE, RANGE, 3, 10)
    assert voxels.shape == (0, 3, 5) and coors.shape == (0, 3)


def test_large_coordinates_are_grouped_without_overflow(backend):
    big = 2**31 - 1
    coors = torch.tensor([[big, 0, big], [0, 0, 1], [big, 0, big]], dtype=torch.int32)
    _, voxels, point2voxel, _ = scatter_reduce_voxels(torch.ones(3, 1), coors)
    assert voxels.tolist() == [[0, 0, 1], [big, 0, big]]
    assert point2voxel.tolist() == [1, 0, 1]


def test_bitwise_equal_for_any_number_of_threads(thread_counts):
    points = cloud(60000)

    def run():
        coors = voxelize_dynamic(points, [0.02] * 3, RANGE)
        return coors, *scatter_reduce_voxels(points, coors)

    one, two = (thread_counts(n, run) for n in (1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, two))


def test_errors():
    with pytest.raises(ValueError, match="point_cloud_range"):
        voxelize_dynamic(cloud(), SIZE, [1, 0, 0, 0, 1, 1])
    with pytest.raises(ValueError, match="voxel_size: expected three positive"):
        voxelize_dynamic(cloud(), [0, 1, 1], RANGE)
    with pytest.raises(ValueError, match="max_voxels"):
        voxelize_hard(cloud(), SIZE, RANGE, 1, 0)
    with pytest.raises(ValueError, match="reduce"):
        scatter_reduce_voxels(cloud(), torch.zeros(400, 3, dtype=torch.int32), "median")
    with pytest.raises(TypeError, match="coors: expected torch.int32"):
        scatter_reduce_voxels(cloud(), torch.zeros(400, 3, dtype=torch.int64))


def test_opcheck():
    points = cloud(30)
    torch.library.opcheck(torch.ops.mmcity.voxelize_dynamic, (points, SIZE, RANGE))
    torch.library.opcheck(torch.ops.mmcity.voxelize_hard, (points, SIZE, RANGE, 2, 9))
    coors = voxelize_dynamic(points, SIZE, RANGE)
    torch.library.opcheck(torch.ops.mmcity.group_voxels, (coors,))
    _, *groups = torch.ops.mmcity.group_voxels(coors)
    for reduce in ("mean", "max"):
        torch.library.opcheck(torch.ops.mmcity.scatter_reduce_voxels, (points, *groups, reduce))


@pytest.mark.real_data
def test_official_voxels_of_a_lidar_scan():
    folder = real_data_dir("semantickitti_4d") / "sequences" / "00"
    points = torch.from_numpy(
        np.fromfile(folder / "velodyne" / "000000.bin", dtype=np.float32).reshape(-1, 4)
    )
    packed = np.fromfile(folder / "voxels" / "000000.bin", dtype=np.uint8)
    official = torch.from_numpy(np.unpackbits(packed).reshape(256, 256, 32).astype(bool))
    cells = voxelize_dynamic(points, [0.2] * 3, [0, -25.6, -2.2, 51.2, 25.6, 4.2])
    z, y, x = cells[cells[:, 0] >= 0].long().T
    occupied = torch.zeros_like(official)
    occupied[x, y, z] = True
    iou = (occupied & official).sum() / (occupied | official).sum()
    assert official.sum() == 11677
    assert iou.item() == pytest.approx(0.9968, abs=5e-5)


def test_grids_of_more_than_2_to_the_62_cells(backend):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    far = 2**31 - 2
    coors = torch.tensor([[far, far, 1], [0, 0, 0], [far, far, 1]], dtype=torch.int32).to(device)
    feats = torch.tensor([[1.0], [5.0], [3.0]], device=device)
    out, voxels, point2voxel, counts = scatter_reduce_voxels(feats, coors, "sum")
    assert voxels.tolist() == [[0, 0, 0], [far, far, 1]] and point2voxel.tolist() == [1, 0, 1]
    assert out.tolist() == [[5.0], [4.0]] and counts.tolist() == [1, 2]
