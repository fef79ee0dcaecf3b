"""Posed images go to other tools' files and come back the same."""

import json

import numpy as np
import pytest
import torch

from mmcity.apis.scenes import export_scene
from mmcity.datasets import ColmapDataset, NerfstudioDataset
from mmcity.datasets.io.colmap_model import read_colmap_model, write_colmap_model
from mmcity.datasets.io.colmap_types import ColmapCamera
from mmcity.datasets.scene_export import to_colmap_model, write_transforms_json
from mmcity.structures import SceneFrame, read_frame, write_frame
from mmcity.utils.cli import UserError
from mmcity.utils.picture_names import output_names
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


def test_the_folder_of_a_model_stands_for_its_scene(tmp_path):
    write_scene(tmp_path / "scene")
    target = tmp_path / "ns" / "transforms.json"
    export_scene(tmp_path / "scene" / "sparse" / "0", target)
    files = [frame["file_path"] for frame in json.loads(target.read_text())["frames"]]
    assert files and all((target.parent / file).is_file() for file in files)
    (tmp_path / "scene" / "images").rename(tmp_path / "scene" / "photos")
    with pytest.raises(FileNotFoundError, match="in none: put the pictures there"):
        export_scene(tmp_path / "scene" / "sparse" / "0", target)


def test_a_folder_that_is_no_source_says_what_would_be(tmp_path):
    write_scene(tmp_path / "scene")
    with pytest.raises(
        UserError, match=r"scene: expected a folder with transforms\.json .*for a\.ply"
    ):
        export_scene(tmp_path / "scene", tmp_path / "a.ply")


def test_camera_that_nerfstudio_does_not_have(tmp_path):
    params = [30.0, 30.0, 20.0, 15.0, 0.01, 0.002, 0.0, 0.0, 0.0, 0.0, 0.1, 0.1]
    camera = ColmapCamera(3, "THIN_PRISM_FISHEYE", WIDTH, HEIGHT, params)
    model = write_scene(tmp_path / "scene", camera=camera)
    with pytest.raises(ValueError, match="THIN_PRISM_FISHEYE"):
        write_transforms_json(model, tmp_path / "transforms.json", tmp_path / "scene")


def test_far_scenes_keep_their_coordinates_and_frame(tmp_path):
    """Other programs get what the files said, to a micrometre, and the frame beside it."""
    place = np.array([452310.25, 5411872.75, 213.5])
    before = write_scene(tmp_path / "scene")
    for image in before.images.values():
        image.tvec = image.tvec - image.viewmat[:3, :3] @ place
    before.points3D.xyz = before.points3D.xyz + place
    write_colmap_model(before, tmp_path / "scene" / "sparse" / "0")
    frame = SceneFrame(crs="EPSG:25832", origin=(0.0, 0.0, 50.0))
    write_frame(tmp_path / "scene" / "frame.json", frame)
    export_scene(tmp_path / "scene", tmp_path / "ns" / "transforms.json")
    assert read_frame(tmp_path / "ns") == frame
    dataset = NerfstudioDataset(tmp_path / "ns", split="all")
    world = dataset.frame.scene_to_world(dataset.points3D.xyz)
    np.testing.assert_allclose(world, before.points3D.xyz + [0, 0, 50], rtol=0, atol=1e-6)
    export_scene(tmp_path / "ns", tmp_path / "again")
    assert read_frame(tmp_path / "again") == frame
    after = read_colmap_model(tmp_path / "again")
    np.testing.assert_allclose(after.points3D.xyz, before.points3D.xyz, rtol=0, atol=1e-6)
    centers = [
        {i.name.rsplit("/", 1)[-1]: -i.viewmat[:3, :3].T @ i.tvec for i in model.images.values()}
        for model in (before, after)
    ]
    for name, center in centers[0].items():
        np.testing.assert_allclose(centers[1][name], center, rtol=0, atol=1e-6)


def test_an_earlier_frame_does_not_outlive_the_next_export(tmp_path):
    write_scene(tmp_path / "scene")
    write_frame(tmp_path / "ns" / "frame.json", SceneFrame(origin=(1.0, 2.0, 3.0)))
    export_scene(tmp_path / "scene", tmp_path / "ns" / "transforms.json")
    assert read_frame(tmp_path / "ns") is None
    write_frame(tmp_path / "again" / "frame.json", SceneFrame(origin=(1.0, 2.0, 3.0)))
    export_scene(tmp_path / "ns", tmp_path / "again")
    assert read_frame(tmp_path / "again") is None


@pytest.mark.parametrize("absolute", [False, True])
def test_pictures_of_another_folder_have_names_that_outputs_can_mirror(tmp_path, absolute):
    names = ["cam0/1.png", "cam0/2.png", "cam1/1.png"]
    write_scene(tmp_path / "scene", names=names)
    target = tmp_path / "ns" / "transforms.json"
    export_scene(tmp_path / "scene", target)
    document = json.loads(target.read_text())
    if absolute:
        for frame in document["frames"]:
            frame["file_path"] = str((target.parent / frame["file_path"]).resolve())
    document["train_filenames"] = [f["file_path"] for f in document["frames"][:2]]
    document["test_filenames"] = [f["file_path"] for f in document["frames"][2:]]
    target.write_text(json.dumps(document))
    dataset = NerfstudioDataset(target.parent, split="all")
    assert dataset.img_names == names
    assert sorted(output_names(dataset.img_names, ".png")) == names
    assert NerfstudioDataset(target.parent, split="test").img_names == names[2:]
    assert NerfstudioDataset(target.parent, split="train").img_names == names[:2]
    export_scene(target.parent, tmp_path / "scene" / "sparse" / "0")
    assert ColmapDataset(tmp_path / "scene", split="all").img_names == names
