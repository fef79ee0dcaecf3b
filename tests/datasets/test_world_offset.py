"""Scenes far from the origin are read about their own, those near it as they are."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmcity.datasets import CambridgeLandmarks, ColmapDataset, NerfstudioDataset, posed_images
from mmcity.datasets.io.colmap_model import read_colmap_model, write_colmap_model
from mmcity.datasets.io.point_ply import write_point_ply
from mmcity.structures import SceneFrame, write_frame
from mmcity.structures.geometry import OPENGL_TO_OPENCV
from mmcity.structures.world_offset import FAR, world_offset

from .scenes import make_model, picture, write_scene, write_transforms

UTM = np.array([452310.25, 5411872.75, 213.5])
ECEF = np.array([4_177_012.5, 855_043.25, 4_728_211.75])


def move(model, by):
    """The same capture in other coordinates."""
    for image in model.images.values():
        image.tvec = image.tvec - image.viewmat[:3, :3] @ by
    model.points3D.xyz = model.points3D.xyz + by
    return model


def write_moved(root, by, **kwargs):
    model = move(write_scene(root, **kwargs), by)
    write_colmap_model(model, root / "sparse/0")
    return model


def circle(middle, radius=2.0):
    angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    offsets = np.stack([np.cos(angles), np.sin(angles), np.zeros(8)], 1)
    return middle + radius * offsets


def test_only_scenes_far_from_the_origin_for_their_size_are_moved():
    nothing = np.zeros((0, 3))
    near, away = world_offset(circle([(FAR - 1) * 2.0, 0, 0]), nothing)
    assert not near.any() and away == pytest.approx(FAR - 1)
    far, away = world_offset(circle([(FAR + 1) * 2.0, 0.4, 0]), nothing)
    assert far.tolist() == [62.0, 0.0, 0.0] and away == pytest.approx(FAR + 1, rel=1e-3)
    # Units do not matter, and a lost camera does not decide.
    assert world_offset(circle([6200.0, 40, 0], 200), nothing)[0].tolist() == [6200, 0, 0]
    cameras = np.concatenate([circle(UTM), circle(UTM), [[0, 0, 0]]])
    assert world_offset(cameras, nothing)[0].tolist() == [452310.0, 5411873.0, 214.0]
    # Cameras that turn on the spot: the points say how large the scene is.
    spot = np.tile([[3.0, 2.0, 1.0]], (4, 1))
    assert not world_offset(spot, circle([3.0, 2.0, 1.0]))[0].any()
    assert not world_offset(spot[:1], nothing)[0].any()


@pytest.mark.parametrize("place", [UTM, ECEF], ids=["utm", "ecef"])
def test_a_far_scene_is_the_near_one_to_rounding(tmp_path, place):
    write_scene(tmp_path / "near")
    write_moved(tmp_path / "far", place)
    near = ColmapDataset(tmp_path / "near", split="all")
    far = ColmapDataset(tmp_path / "far", split="all")
    assert near.frame.is_identity and not near.offset.any()
    residue = place - far.offset
    assert abs(residue).max() < 5 and far.frame == SceneFrame(origin=far.offset)
    np.testing.assert_allclose(far.points3D.xyz, near.points3D.xyz + residue, atol=2e-9)
    np.testing.assert_allclose(
        far.cameras.centers, near.cameras.centers.numpy() + residue, atol=2e-6
    )
    assert far.scene_extent == pytest.approx(near.scene_extent, rel=1e-6)
    pixels = [d.cameras.project(torch.from_numpy(d.points3D.xyz).float())[0] for d in (near, far)]
    torch.testing.assert_close(pixels[1], pixels[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(far[1]["data_samples"].camera.viewmats, far.cameras.viewmats[1:2])


def test_the_offset_is_told_once_with_the_size(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(posed_images, "print_log", lambda text, *_: told.append(text))
    write_moved(tmp_path, UTM)
    ColmapDataset(tmp_path, split="all")
    told = [line for line in told if "from the origin" in line]
    assert len(told) == 1 and "452310, 5411873, 215" in told[0]


def test_all_splits_and_selections_share_the_offset(tmp_path):
    write_moved(tmp_path, UTM, count=16)
    parts = [ColmapDataset(tmp_path, split=split) for split in ("train", "test", "all")]
    parts.append(ColmapDataset(tmp_path, split="test", point_stride=3, indices=1))
    assert len({part.frame for part in parts}) == 1
    names = parts[2].img_names
    for part in parts:
        rows = [names.index(name) for name in part.img_names]
        torch.testing.assert_close(part.cameras.viewmats, parts[2].cameras.viewmats[rows])


def test_other_layouts_are_moved_too(tmp_path):
    model = make_model()
    pixels = ColmapDataset(_written(tmp_path / "near", model), split="all")
    far = move(model, UTM)
    write_transforms(tmp_path / "ns", far, ply_file_path="points.ply")
    write_point_ply(tmp_path / "ns" / "points.ply", far.points3D.xyz)
    dataset = NerfstudioDataset(tmp_path / "ns", split="all")
    torch.testing.assert_close(
        dataset.cameras.project(torch.from_numpy(dataset.points3D.xyz).float())[0],
        pixels.cameras.project(torch.from_numpy(pixels.points3D.xyz).float())[0],
        atol=1e-3,
        rtol=0,
    )
    for split, rows in (("train", (0, 1, 2, 3)), ("test", (4, 5))):
        folder = tmp_path / "cambridge" / split
        (folder / "rgb").mkdir(parents=True)
        (folder / "poses").mkdir()
        for row in rows:
            pose = np.linalg.inv(list(far.images.values())[row].viewmat)
            np.savetxt(folder / "poses" / f"{row}.txt", pose, fmt="%.12g")
            _save(folder / "rgb" / f"{row}.png", row)
    train, test = (CambridgeLandmarks(tmp_path / "cambridge", split=s) for s in ("train", "test"))
    assert train.frame == test.frame == dataset.frame == SceneFrame(origin=dataset.offset)
    torch.testing.assert_close(
        torch.cat([train.cameras.viewmats, test.cameras.viewmats]),
        dataset.cameras.viewmats,
        atol=1e-5,
        rtol=0,
    )


def _save(path, row):
    Image.fromarray(picture(row)).save(path)


def _written(root, model):
    write_colmap_model(model, root / "sparse/0")
    (root / "images").mkdir()
    for row, image in enumerate(model.images.values()):
        _save(root / "images" / image.name, row)
    return root


def test_the_frame_of_the_folder_is_carried(tmp_path):
    model = write_scene(tmp_path)
    frame = SceneFrame(crs="EPSG:25832", origin=UTM)
    write_frame(tmp_path / "frame.json", frame)
    dataset = ColmapDataset(tmp_path, split="all")
    assert dataset.frame == frame and not dataset.offset.any()
    np.testing.assert_array_equal(dataset.points3D.xyz, model.points3D.xyz)
    # Files that are far from their own origin, too, are moved besides.
    write_colmap_model(move(model, ECEF), tmp_path / "sparse/0")
    moved = ColmapDataset(tmp_path, split="all")
    point = model.points3D.xyz[3]
    world = moved.frame.scene_to_world(moved.points3D.xyz[3])
    np.testing.assert_allclose(world, UTM + point, atol=1e-8)
    assert moved.offset.any() and moved.frame.crs == "EPSG:25832"
    (tmp_path / "frame.json").write_text(json.dumps({"version": 1, "scale": -1}))
    with pytest.raises(ValueError, match=r"frame\.json: scale"):
        ColmapDataset(tmp_path, split="all")


def test_a_dataset_follows_the_frame_of_a_model(tmp_path):
    write_moved(tmp_path, UTM)
    dataset = ColmapDataset(tmp_path, split="test")
    dataset[0]  # into the cache
    # A model of a version that did not move scenes.
    dataset.express_in(SceneFrame())
    raw = read_colmap_model(tmp_path).points3D.xyz
    np.testing.assert_allclose(dataset.points3D.xyz, raw, rtol=0, atol=2e-9)
    assert dataset.frame.is_identity
    camera = dataset[0]["data_samples"].camera
    np.testing.assert_allclose(camera.centers[0].numpy() / UTM, 1, atol=5e-2)
    other = SceneFrame(origin=UTM + 7)
    dataset.express_in(other)
    assert dataset.frame == other
    np.testing.assert_allclose(dataset.points3D.xyz, raw - UTM - 7, rtol=0, atol=4e-9)
    pose = np.linalg.inv(dataset.images[0].viewmat) @ OPENGL_TO_OPENCV
    np.testing.assert_allclose(pose[:3, 3], [5 - 7, -7, 1.5 - 7], atol=1e-6)
    with pytest.raises(ValueError, match="differ by a shift"):
        dataset.express_in(SceneFrame(crs="EPSG:25832", scale=2.0))
