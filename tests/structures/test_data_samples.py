"""Data samples check what they are given and move all of it."""

import pytest
import torch

from mmcity.structures import Cameras, SceneDataSample


def test_scene_sample_carries_a_camera_and_images():
    sample = SceneDataSample(metainfo={"img_name": "a/b.jpg", "index": 3})
    sample.camera = Cameras(torch.eye(3), torch.eye(4), 8, 6)
    sample.gt_image = torch.zeros(3, 6, 8)
    moved = sample.to(torch.float64)
    assert moved.camera.dtype == torch.float64 and moved.gt_image.dtype == torch.float64
    assert moved.img_name == "a/b.jpg" and sample.camera.dtype == torch.float32
    with pytest.raises(AssertionError):
        sample.camera = torch.eye(4)
