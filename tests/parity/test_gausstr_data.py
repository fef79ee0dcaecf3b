"""GaussTR's transforms and metric against golden vectors."""

import numpy as np
import pytest
import torch

from mmcity.datasets.transforms import ImageAug3D, LoadFeatMaps
from mmcity.datasets.transforms.image_maps import splat_depth
from mmcity.evaluation.metrics import OccMetric
from mmcity.structures import OccupancyDataSample
from tests.parity._golden import Golden, find_cases, vectors


def load(path):
    with np.load(path) as data:
        return {key: data[key] for key in data.files}


def augmentation_of(golden):
    """Factor, resized size, crop box, flip and degrees that a recorded matrix stands for."""
    linear = golden["aug_flip_rot_R"].astype(np.float64)
    height, width = golden["aug_flip_rot_img"].shape[:2]
    resize = round(abs(np.linalg.det(linear)) ** 0.5, 6)  # drop the rounding of float32
    flip = bool(np.linalg.det(linear) < 0)
    theta = np.arctan2(linear[0, 1], linear[1, 1])
    turn = np.array([[np.cos(theta), np.sin(theta)], [-np.sin(theta), np.cos(theta)]])
    centre = np.array([width, height]) / 2
    left, top = np.linalg.solve(turn, golden["aug_flip_rot_t"] - centre + turn @ centre)
    left, top = round(left - width if flip else -left), round(-top)
    size = tuple(int(side * resize) for side in golden["img"].shape[1::-1])
    box = (left, top, left + width, top + height)
    return resize, size, box, flip, round(float(np.degrees(theta)), 5)


@vectors("transforms", "gausstr")
def test_image_augmentation(path):
    golden = load(path)
    image, final = golden["img"], tuple(golden["final_dim"])
    test_time = ImageAug3D(final, float(golden["resize"]))
    results = test_time({"img": [image]})
    np.testing.assert_array_equal(results["img"][0], golden["aug_test_img"])
    np.testing.assert_allclose(results["img_aug_mat"][0], golden["aug_test_mat"], atol=1e-5)
    linear, shift = golden["aug_flip_rot_R"], golden["aug_flip_rot_t"]
    turned, matrix = ImageAug3D.apply(image, *augmentation_of(golden))
    assert np.abs(turned - golden["aug_flip_rot_img"]).max() <= 1
    np.testing.assert_allclose(matrix[:2, :2], linear, atol=1e-5)
    np.testing.assert_allclose(matrix[:2, 3], shift, atol=1e-5, rtol=2e-7)


@vectors("transforms", "gausstr")
def test_maps_follow_the_image(path):
    golden = load(path)
    matrix = golden["load_aug_mat"]
    for raw, key in (("depth_raw", "depth"), ("seg_raw", "sem_seg")):
        got = LoadFeatMaps.augment(torch.from_numpy(golden[raw]), matrix, None)
        np.testing.assert_allclose(got.numpy(), golden[key][0], atol=1e-5, rtol=1e-4)
        final = tuple(golden["final_dim"])
        cropped = LoadFeatMaps.augment(torch.from_numpy(golden[raw]), matrix, final)
        np.testing.assert_allclose(
            cropped.numpy(), golden[key][0][: final[0], : final[1]], atol=1e-5, rtol=1e-4
        )
    np.testing.assert_array_equal(golden["feat_raw"], golden["feats"][0])


@vectors("transforms", "gausstr")
def test_points_to_depth(path):
    golden = load(path)
    size, wanted = golden["img"].shape[:2], golden["p2d_depth"]
    factors = range(1, min(size) + 1)
    factors = [k for k in factors if (size[0] // k, size[1] // k) == wanted.shape]
    # The range is not recorded: from the nearest depth of the map to just beyond the farthest.
    nearest, farthest = wanted[wanted > 0].min(), np.nextafter(wanted.max(), np.float32(np.inf))
    points, limits = golden["p2d_points"], (nearest, farthest)
    errors = [np.abs(splat_depth(points, size, limits, k) - wanted).max() for k in factors]
    assert min(errors) <= 1e-6


@pytest.mark.parametrize(
    "path",  # names of the depth estimator's files begin likewise
    [path for path in find_cases("metric", "gausstr") if "mask_camera" in Golden(path)],
    ids=lambda path: path.stem,
)
def test_occupancy_metric(path):
    golden = load(path)
    for mask in ("camera", "lidar", "none"):
        classes = len(golden[f"hist_{mask}"])
        metric = OccMetric(
            classes, mask == "lidar", mask == "camera", free_class=classes - 1, ranges=()
        )
        for pred, gt, camera, lidar in zip(
            golden["pred"], golden["gt"], golden["mask_camera"], golden["mask_lidar"]
        ):
            sample = OccupancyDataSample()
            sample.gt_occupancy = torch.from_numpy(gt)
            sample.pred_occupancy = torch.from_numpy(pred)
            sample.set_data(
                {"mask_camera": torch.from_numpy(camera), "mask_lidar": torch.from_numpy(lidar)}
            )
            metric.process({}, [sample.to_dict()])
        scores = metric.evaluate(len(golden["pred"]))
        iou = golden[f"iou_per_class_{mask}"]
        # The published figures are shares, ours are per cent.
        per_class = np.array([scores[str(c)] for c in range(len(iou))]) / 100
        np.testing.assert_allclose(per_class, iou, atol=1e-9)
        np.testing.assert_allclose(scores["miou"] / 100, golden[f"miou_{mask}"], atol=1e-9)
        np.testing.assert_allclose(scores["iou"] / 100, golden[f"iou_{mask}"], atol=1e-9)
        assert not metric.results  # the next evaluation starts from nothing
