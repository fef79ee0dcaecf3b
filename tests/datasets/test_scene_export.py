"""Posed images go to other tools' files and come back the same."""

import numpy as np
import pytest
import torch

from mmcity.datasets import ColmapDataset, NerfstudioDataset
from mmcity.datasets.io.colmap_model import read_colmap_model, write_colmap_model
from mmcity.datasets.io.colmap_types import ColmapCamera
from mmcity.datasets.scene_export import to_colmap_model, write_transforms_json
from tests.datasets.scenes import HEIGHT, WIDTH, write_scene

CAMERAS = {
    "pinhole": ColmapCamera(3, "PINHOLE", WIDTH, HEIGHT, [50.0, 52.0, 20.5, 14.0]),
    "distorted": ColmapCamera(
        3, "OPENCV", WIDTH, HEIGHT, [50.0, 52.0, 20.5, 14.0, 0.01, -0.002, 1e-3, -1e-3]
    ),
    "fisheye": ColmapCamera(
        3, "OPENCV_FISHEYE", WIDTH, HEIGHT, [30.0, 30.0, 20.0, 15.0, 0.01, 0.002, 0.0, 0.0]
    ),
}


@pytest.mark.parametrize("kind", CAMERAS)
def test_colmap_to_nerfstudio_and_back(tmp_path, kind):
    before = write_scene(tmp_path / "scene", camera=CAMERAS[kind])
    write_transforms_json(before, tmp_path / "ns" / "transforms.json", tmp_path / "scene")
    scene = NerfstudioDataset(tmp_path / "ns", split="all", undistort=True)
    truth = ColmapDataset(tmp_path / "scene", split="all", undistort=True)
    assert torch.allclose(scene.all_cameras.viewmats, truth.all_cameras.viewmats, atol=1e-6)
    assert torch.allclose(scene.all_cameras.Ks, truth.all_cameras.Ks, atol=1e-4)
    assert np.allclose(scene.points3D.xyz, before.points3D.xyz, atol=1e-6)

    write_colmap_model(to_colmap_model(scene), tmp_path / "again")
    after = read_colmap_model(tmp_path / "again")
    poses = {image.name.rsplit("/", 1)[-1]: image.viewmat for image in after.images.values()}
    for image in before.images.values():
        assert np.allclose(poses[image.name], image.viewmat, atol=1e-6)
    camera = next(iter(after.cameras.values()))
    assert np.allclose(camera.distortion[:4], CAMERAS[kind].distortion[:4])
    assert np.allclose(camera.K, CAMERAS[kind].K)
    assert np.array_equal(after.points3D.rgb, before.points3D.rgb)


def test_camera_that_nerfstudio_does_not_have(tmp_path):
    params = [30.0, 30.0, 20.0, 15.0, 0.01, 0.002, 0.0, 0.0, 0.0, 0.0, 0.1, 0.1]
    camera = ColmapCamera(3, "THIN_PRISM_FISHEYE", WIDTH, HEIGHT, params)
    model = write_scene(tmp_path / "scene", camera=camera)
    with pytest.raises(ValueError, match="THIN_PRISM_FISHEYE"):
        write_transforms_json(model, tmp_path / "transforms.json", tmp_path / "scene")
