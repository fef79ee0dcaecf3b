"""Occupancy metrics on cases worked out by hand."""

import math

import pytest
import torch

from mmcity.evaluation.functional.occupancy import count_occupancy
from mmcity.evaluation.functional.ray_iou import count_rays, lidar_directions
from mmcity.evaluation.metrics import OccIoU, OccMetric
from mmcity.structures import OccupancyDataSample, VoxelGrid


def test_counts_by_hand():
    pred = torch.tensor([0, 1, 1, 2, 2, 0])
    target = torch.tensor([0, 1, 2, 2, 0, 1])
    counts = count_occupancy(pred, target, num_classes=4, free_class=0)
    assert counts.class_iou().tolist() == pytest.approx([100 / 3, 100 / 3, 100 / 3, 0])
    assert counts.present().tolist() == [True, True, True, False]
    assert counts.binary_iou() == pytest.approx(100 * 3 / 5)
    halves = [count_occupancy(pred[i], target[i], 4, 0) for i in (slice(0, 3), slice(3, 6))]
    assert torch.equal((halves[0] + halves[1]).true_positive, counts.true_positive)
    with pytest.raises(ValueError, match=r"target: expected labels of 0\.\.3"):
        count_occupancy(pred, target + 3, 4, 0)
    with pytest.raises(ValueError, match="target: expected .2,. as pred"):
        count_occupancy(pred[:2], target, 4, 0)


def test_metric_of_few_classes():
    """``others`` and ``other_flat`` of Occ3D need not be labels."""
    metric = OccMetric(num_classes=4, free_class=3, use_image_mask=False, ranges=())
    frame = OccupancyDataSample()
    frame.gt_occupancy = torch.tensor([[[0, 1, 2, 3]]])
    frame.pred_occupancy = torch.tensor([[[0, 1, 1, 3]]])
    metric.process({}, [frame.to_dict()])
    scores = metric.evaluate(1)
    assert scores["miou"] == pytest.approx(50) and scores["miou15"] == pytest.approx(25)


def sample(pred, target, invalid):
    element = OccupancyDataSample()
    element.pred_occupancy, element.gt_occupancy, element.invalid_mask = pred, target, invalid
    return element.to_dict()


def test_clip_metric_leaves_out_invalid_voxels():
    pred, target = torch.tensor([[[[1, 2]]]]), torch.tensor([[[[1, 1]]]])
    invalid = torch.tensor([[[[False, True]]]])
    metric = OccIoU(num_classes=3, per_frame=True)
    metric.process({}, [sample(pred, target, invalid)])
    scores = metric.evaluate(1)
    assert scores["occ/mIoU"] == pytest.approx(100)
    assert scores["occ/mIoU_frame00"] == pytest.approx(100)
    unmasked = OccIoU(num_classes=3, use_valid_mask=False)
    unmasked.process({}, [sample(pred, target, invalid)])
    assert unmasked.evaluate(1)["occ/mIoU"] == pytest.approx(50)


def grid_of(labels):
    return VoxelGrid(labels, origin=torch.zeros(3), voxel_size=0.4, free_label=17)


def test_ray_iou_grades_the_distance_error():
    target = torch.full((40, 40, 8), 17)
    target[35, :, :] = 15
    origins = torch.tensor([[8.0, 8.0, 1.0]])
    same = count_rays(grid_of(target), grid_of(target), origins, 18).ray_iou(17)
    assert same["RayIoU"] == pytest.approx(100)
    shifted = torch.full_like(target, 17)
    shifted[32, :, :] = 15  # 1.2 m nearer along x
    scores = count_rays(grid_of(shifted), grid_of(target), origins, 18).ray_iou(17)
    assert scores["RayIoU@1"] < 5 < scores["RayIoU@2"] < scores["RayIoU@4"] <= 100


def test_lidar_pattern():
    directions = lidar_directions()
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(len(directions)))
    assert len(directions) % 360 == 0
    pitch = torch.asin(directions[::360, 2])
    torch.testing.assert_close(pitch[0], torch.tensor(-math.pi / 4))
    assert pitch[-1] < 0.21
