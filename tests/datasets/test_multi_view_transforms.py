"""Transforms of surround cameras and the options of their data set."""

import pickle

import numpy as np
import pytest
from mmengine.runner import set_random_seed

from mmcity.datasets import NuScenesOccDataset
from mmcity.datasets.transforms import (
    BEVDataAug,
    BEVLoadMultiViewImageFromFiles,
    ImageAug3D,
    PackMultiViewInputs,
    PointToMultiViewDepth,
)

IMAGE = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)


def augment(**options):
    results = ImageAug3D((8, 16), 1.0, is_train=True, **options)({"img": [IMAGE]})
    return results["img"][0], results["img_aug_mat"][0]


def test_the_crop_leaves_a_share_of_the_rows_below():
    image, matrix = augment(bot_pct_lim=(0.25, 0.25))
    np.testing.assert_array_equal(image, IMAGE[4:12])
    assert matrix[1, 3] == -4


def test_half_of_the_training_images_are_mirrored():
    set_random_seed(0)
    seen = [augment(rand_flip=True) for _ in range(8)]
    for image, matrix in seen:
        expected = IMAGE[8:] if matrix[0, 0] > 0 else IMAGE[8:, ::-1]
        np.testing.assert_array_equal(image, expected)
    assert {float(matrix[0, 0]) for _, matrix in seen} == {1.0, -1.0}


def test_images_turn_by_degrees_about_their_centre():
    image, matrix = augment(rot_lim=(180, 180))
    np.testing.assert_array_equal(image, IMAGE[8:][::-1, ::-1])
    np.testing.assert_allclose(matrix @ [0, 8, 0, 1], [16, 8, 0, 1], atol=1e-5)


def test_the_ego_frame_is_flipped_along_x():
    labels = np.arange(8).reshape(2, 2, 2)
    results = BEVDataAug(flip_x=1.0, flip_y=0.0)({"gt_semantic_seg": labels})
    np.testing.assert_array_equal(results["gt_semantic_seg"], labels[::-1])
    np.testing.assert_array_equal(results["bev_aug_mat"], np.diag([-1, 1, 1]))


def test_the_nearest_point_of_a_cell_gives_its_depth():
    results = {"points": [[9.0, 5.0, 1.0], [18.0, 10.0, 2.0]], "img": [IMAGE]}
    results |= dict.fromkeys(("cam2img", "lidar2cam", "img_aug_mat"), np.eye(4)[None])
    depth = PointToMultiViewDepth((0.5, 10.0), downsample=4)(results)["gt_depth"]
    assert depth.shape == (1, 4, 4) and depth[0, 1, 2] == 1.0  # both fall on pixel (9, 5)
    assert depth.sum() == 1.0


def test_images_are_loaded_in_colour():
    BEVLoadMultiViewImageFromFiles(color_type="color")
    with pytest.raises(ValueError, match="grayscale"):
        BEVLoadMultiViewImageFromFiles(color_type="grayscale")


def test_chosen_results_become_metainfo():
    results = {"img": [IMAGE], "token": "a", "scene_idx": "scene-0001"}
    packed = PackMultiViewInputs(keys=(), meta_keys=("token", "absent"))(results)
    assert packed["data_samples"].metainfo == {"token": "a"}


def test_images_lie_in_the_folder_of_their_camera(tmp_path):
    image = {"img_path": "1.jpg", "cam2img": np.eye(3), "cam2ego": np.eye(4)}
    info = {"token": "a", "scene_idx": "s", "images": {"CAM_FRONT": image, "CAM_BACK": image}}
    content = {"metainfo": {}, "data_list": [info]}
    (tmp_path / "infos.pkl").write_bytes(pickle.dumps(content))
    dataset = NuScenesOccDataset(
        "infos.pkl", str(tmp_path), data_prefix={"CAM_FRONT": "sweeps/front"}
    )
    paths = {k: v["img_path"] for k, v in dataset.get_data_info(0)["images"].items()}
    assert paths["CAM_FRONT"] == str(tmp_path / "sweeps" / "front" / "1.jpg")
    assert paths["CAM_BACK"] == str(tmp_path / "samples" / "CAM_BACK" / "1.jpg")
