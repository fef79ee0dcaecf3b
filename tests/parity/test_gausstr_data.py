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


@vectors("transforms", "gausstr")
def test_image_augmentation(path):
    golden = load(path)
    image, final = golden["img"], tuple(golden["final_dim"])
    test_time = ImageAug3D(final, float(golden["resize"]))
    results = test_time({"img": [image]})
    np.testing.assert_array_equal(results["img"][0], golden["aug_test_img"])
    np.testing.assert_allclose(results["img_aug_mat"][0], golden["aug_test_mat"], atol=1e-5)
    turned, matrix = ImageAug3D.apply(image, 0.6, (96, 54), (7, 5, 87, 49), True, 8)
    assert np.abs(turned - golden["aug_flip_rot_img"]).max() <= 1
    np.testing.assert_allclose(matrix[:2, :2], golden["aug_flip_rot_R"], atol=1e-5)
    np.testing.assert_allclose(matrix[:2, 3], golden["aug_flip_rot_t"], atol=1e-4)


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
    size = golden["img"].shape[:2]
    factor = size[0] // len(golden["p2d_depth"])
    depth = splat_depth(golden["p2d_points"], size, (1.0, 60.0), factor)
    np.testing.assert_allclose(depth, golden["p2d_depth"], atol=1e-6)


@pytest.mark.parametrize(
    "path",  # names of the depth estimator's files begin likewise
    [path for path in find_cases("metric", "gausstr") if "mask_camera" in Golden(path)],
    ids=lambda path: path.stem,
)
def test_occupancy_metric(path):
    golden = load(path)
    for mask in ("camera", "lidar", "none"):
        metric = OccMetric(
            use_image_mask=mask == "camera", use_lidar_mask=mask == "lidar", ranges=()
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
