"""ColmapDataset and NerfstudioDataset: items, splits, sizes, distortion, bad input."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch.utils.data import DataLoader

from mmcity.datasets import CityGSXDataset, ColmapDataset, NerfstudioDataset, colmap, posed_images
from mmcity.datasets.io.colmap_model import write_colmap_model
from mmcity.datasets.io.colmap_types import ColmapCamera
from mmcity.datasets.transforms import ImageReadError, target_size
from mmcity.registry import DATASETS
from tests.conftest import real_data_dir

from .scenes import HEIGHT, WIDTH, make_model, picture, write_scene, write_transforms


def features_of(model, row):
    return list(model.images.values())[row].xys


# ------------------------------------------------------------------ items


def test_an_item_is_the_picture_with_its_camera(tmp_path):
    model = write_scene(tmp_path)
    dataset = DATASETS.build(dict(type="ColmapDataset", data_root=str(tmp_path), split="all"))
    item = dataset[2]
    assert item["inputs"]["img"].dtype == torch.uint8
    np.testing.assert_array_equal(item["inputs"]["img"].permute(1, 2, 0), picture(2))
    sample = item["data_samples"]
    assert (sample.img_name, sample.index, sample.split) == ("002.png", 2, "all")
    pixels, depths = sample.camera.project(torch.from_numpy(model.points3D.xyz))
    np.testing.assert_allclose(pixels[0], features_of(model, 2), atol=1e-4)
    assert (depths > 0).all()
    batch = pseudo_collate([dataset[0], dataset[1]])
    assert len(batch["inputs"]["img"]) == len(batch["data_samples"]) == 2


def test_resized_pictures_and_cameras_agree(tmp_path):
    model = write_scene(tmp_path)
    dataset = ColmapDataset(tmp_path, split="all", resize=dict(long_side=17))
    item = dataset[0]
    assert item["inputs"]["img"].shape == (3, 13, 17)
    assert item["data_samples"].camera.one_size() == (17, 13)
    pixels = item["data_samples"].camera.project(torch.from_numpy(model.points3D.xyz))[0][0]
    np.testing.assert_allclose(pixels, features_of(model, 0) * [17 / WIDTH, 13 / HEIGHT], atol=1e-4)
    torch.testing.assert_close(item["data_samples"].camera.Ks, dataset.cameras.Ks[:1])


@pytest.mark.parametrize(
    ("rule", "size"),
    [
        ({}, (4000, 3001)),
        ({"factor": 4}, (1000, 750)),
        ({"long_side": 480}, (480, 360)),
        ({"long_side": 9999}, (4000, 3001)),
        ({"target_width": 640}, (640, 480)),
        ({"resolution": 4}, (1000, 750)),
        ({"resolution": -1}, (1600, 1200)),
        ({"resolution": 640}, (640, 480)),
    ],
)
def test_resize_rules(rule, size):
    assert target_size(4000, 3001, **rule) == size


def test_the_1600_rule_leaves_smaller_pictures_alone():
    assert target_size(1500, 3000, resolution=-1) == (1500, 3000)
    with pytest.raises(ValueError, match="at most one"):
        target_size(10, 10, factor=2, long_side=5)
    with pytest.raises(ValueError, match="factor"):
        target_size(10, 10, factor=0)


def test_files_smaller_than_the_model_says_scale_the_camera(tmp_path):
    model = write_scene(tmp_path)
    for image in model.images.values():
        path = tmp_path / "images" / image.name
        Image.open(path).resize((WIDTH // 2, HEIGHT // 2)).save(path)
    dataset = ColmapDataset(tmp_path, split="all")
    pixels = dataset.cameras.project(torch.from_numpy(model.points3D.xyz).float())[0]
    np.testing.assert_allclose(pixels[1], features_of(model, 1) / 2, atol=1e-3)


def test_scene_extent_is_that_of_the_training_cameras(tmp_path):
    write_scene(tmp_path, count=8)
    dataset = ColmapDataset(tmp_path, split="test", every_n=4)
    centers = np.array([[5 * np.cos(a), 5 * np.sin(a), 1.5] for a in np.arange(8) * np.pi / 4])
    train = np.delete(centers, [0, 4], axis=0)
    expected = 1.1 * np.linalg.norm(train - train.mean(0), axis=1).max()
    assert len(dataset) == 2
    assert dataset.scene_extent == pytest.approx(expected, rel=1e-5)
    assert dataset.metainfo["scene_extent"] == dataset.scene_extent


def test_the_cache_is_bounded_and_gives_the_same_items(tmp_path):
    write_scene(tmp_path)
    one = WIDTH * HEIGHT * 3
    cached = ColmapDataset(tmp_path, split="all", cache_bytes=2.5 * one, preload=True)
    plain = ColmapDataset(tmp_path, split="all", cache_bytes=0)
    for index in (0, 3, 0, 5, 3):
        torch.testing.assert_close(
            cached[index]["inputs"]["img"], plain[index]["inputs"]["img"], atol=0, rtol=0
        )
    assert len(cached.cache) == 2 and cached.cache.bytes == 2 * one
    assert len(plain.cache) == 0
    cached[3]["inputs"]["img"].zero_()
    assert int(cached[3]["inputs"]["img"].sum()) > 0


def test_masks_and_alpha(tmp_path):
    model = write_scene(tmp_path)
    (tmp_path / "masks").mkdir()
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, :10] = 255
    for name in ("000.png.png", "001.png"):
        Image.fromarray(mask).save(tmp_path / "masks" / name)
    rgba = np.concatenate([picture(3), mask[..., None]], -1)
    Image.fromarray(rgba).save(tmp_path / "images" / "003.png")
    dataset = ColmapDataset(tmp_path, split="all", mask_dir="auto", alpha="mask")
    for index in (0, 1, 3):
        np.testing.assert_array_equal(dataset[index]["inputs"]["mask"], mask > 0)
        np.testing.assert_array_equal(dataset[index]["data_samples"].gt_mask, mask > 0)
    assert "mask" not in dataset[2]["inputs"]
    white = ColmapDataset(tmp_path, split="all", alpha="white")[3]["inputs"]["img"]
    assert white[:, 0, 20].tolist() == [255, 255, 255] and white[0, 0, 0] == 3
    assert len(model.images) == len(dataset)


def test_inverse_depth_priors_are_scaled_and_bad_fits_dropped(tmp_path):
    write_scene(tmp_path)
    (tmp_path / "depths").mkdir()
    values = np.full((HEIGHT, WIDTH), 32768, np.uint16)
    values[0] = 0
    for row in range(6):
        Image.fromarray(values).save(tmp_path / "depths" / f"{row:03d}.png")
    params = {f"{row:03d}": {"scale": 2.0, "offset": -0.25} for row in range(6)}
    params["001"]["scale"] = -1.0
    params["002"]["scale"] = 2.0 * 6
    params["003"] = {"scale": None, "offset": None}
    (tmp_path / "sparse/0/depth_params.json").write_text(json.dumps(params))
    dataset = ColmapDataset(tmp_path, split="all", depth_dir="auto")
    depth = dataset[0]["inputs"]["inverse_depth"]
    assert depth[0].unique().tolist() == [0.0]
    assert depth[1:].unique().tolist() == pytest.approx([0.75])
    with_prior = ["inverse_depth" in dataset[row]["inputs"] for row in range(6)]
    assert with_prior == [True, False, False, False, True, True]
    metric = ColmapDataset(tmp_path, split="all", depth_dir="depths", depth_kind="metric")
    assert metric[1]["data_samples"].gt_depth[5, 5].item() == pytest.approx(32.768)
    city = CityGSXDataset(
        tmp_path, split="all", depth_dir="depths", depth_kind="metric", use_neighbours=False
    )
    prior = city[1]["data_samples"].inverse_depth
    assert prior[0].unique().tolist() == [0.0], "what the file does not know stays unknown"
    assert prior[5, 5].item() == pytest.approx(1 / 32.768)


def test_points_can_be_thinned(tmp_path):
    model = write_scene(tmp_path)
    dataset = ColmapDataset(tmp_path, split="all", point_stride=5)
    np.testing.assert_array_equal(dataset.points3D.xyz, model.points3D.xyz[::5])
    with pytest.raises(ValueError, match="expected some of 20 points"):
        ColmapDataset(tmp_path, min_track_length=100)


# ------------------------------------------------------------------ splits


def names_of(root, **kwargs):
    return {part: ColmapDataset(root, split=part, **kwargs).img_names for part in ("train", "test")}


def test_splits_by_every_rule(tmp_path):
    write_scene(tmp_path)
    all_names = [f"{row:03d}.png" for row in range(6)]
    assert names_of(tmp_path, every_n=3, every_n_offset=1)["test"] == ["001.png", "004.png"]
    (tmp_path / "val/rgbs").mkdir(parents=True)
    shutil.copy(tmp_path / "images/005.png", tmp_path / "val/rgbs/005.jpg")
    parts = names_of(tmp_path)
    assert parts["test"] == ["005.png"] and parts["train"] == all_names[:5]
    (tmp_path / "list_test.txt").write_text("002.png\n\n003.png\nnot_registered.png\n")
    assert names_of(tmp_path)["test"] == ["002.png", "003.png"]
    (tmp_path / "a.tsv").write_text(
        "filename\tid\tsplit\tdataset\n000.png\t1\ttrain\tx\n001.png\t2\ttest\tx\n002.png\t3\t\tx\n"
    )
    assert names_of(tmp_path) == {"train": ["000.png"], "test": ["001.png"]}
    assert names_of(tmp_path, split_by="val_folder")["test"] == ["005.png"]
    assert names_of(tmp_path, split_by="every_n", every_n=6)["test"] == ["000.png"]
    assert ColmapDataset(tmp_path, split_by="none").img_names == all_names
    assert ColmapDataset(tmp_path, split="all").img_names == all_names
    skipped = names_of(tmp_path, split_by="every_n", every_n=2, train_skip=2)
    assert skipped == {"train": ["003.png"], "test": ["000.png", "002.png", "004.png"]}


def test_split_refusals(tmp_path):
    write_scene(tmp_path)
    with pytest.raises(FileNotFoundError, match="list_test.txt"):
        ColmapDataset(tmp_path, split_by="list")
    (tmp_path / "list_test.txt").write_text("images/000.png\n")
    with pytest.raises(ValueError, match="none known"):
        ColmapDataset(tmp_path)
    with pytest.raises(ValueError, match="expected some of the"):
        ColmapDataset(tmp_path, split="test", split_by="none")
    with pytest.raises(ValueError, match="split: expected"):
        ColmapDataset(tmp_path, split="training")


# ------------------------------------------------------------------ layouts and bad input


def test_sub_folders_and_flat_copies_are_found(tmp_path):
    names = ["cam0/a.png", "cam1/a.png", "cam1/b.png"]
    write_scene(tmp_path / "deep", names=names)
    dataset = ColmapDataset(tmp_path / "deep", split="all")
    assert [int(dataset[row]["inputs"]["img"][0, 0, 0]) for row in range(3)] == [0, 1, 2]
    write_scene(tmp_path / "flat", names=["x/a.png", "x/b.png"], image_dir="train/rgbs")
    for file in (tmp_path / "flat/train/rgbs/x").iterdir():
        file.rename(tmp_path / "flat/train/rgbs" / file.name)
    assert len(ColmapDataset(tmp_path / "flat", split="all")) == 2


def test_a_name_in_other_letters_is_told(tmp_path):
    write_scene(tmp_path)
    (tmp_path / "images/000.png").rename(tmp_path / "images/000.PNG")
    with pytest.raises(FileNotFoundError, match=r"000\.png \(there is 000\.PNG\): .*image_dir"):
        ColmapDataset(tmp_path)
    write_transforms(tmp_path, make_model())
    (tmp_path / "images/000.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"complete the folder, or leave such images out"):
        NerfstudioDataset(tmp_path)


def test_missing_and_extra_images(tmp_path, monkeypatch):
    said = []
    for module in (colmap, posed_images):
        monkeypatch.setattr(module, "print_log", lambda text, *_: said.append(text))
    write_scene(tmp_path)
    (tmp_path / "images/000.png").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 6 image files do not exist.*000.png"):
        ColmapDataset(tmp_path)
    Image.fromarray(picture(9)).save(tmp_path / "images/extra.png")
    dataset = ColmapDataset(tmp_path, split="all", missing_images="skip")
    assert dataset.img_names == [f"{row:03d}.png" for row in range(1, 6)]
    assert any("000.png; they are left out" in text for text in said)
    assert any("extra.png" in text for text in said)


def test_pictures_that_do_not_decode_name_themselves(tmp_path):
    write_scene(tmp_path)
    (tmp_path / "images/001.png").write_bytes(b"this is no image")
    with pytest.raises(ImageReadError, match="001.png"):
        ColmapDataset(tmp_path)
    whole = (tmp_path / "images/002.png").read_bytes()
    (tmp_path / "images/001.png").write_bytes(whole[: len(whole) // 2])
    dataset = ColmapDataset(tmp_path, split="all")
    with pytest.raises(ImageReadError, match="001.png"):
        dataset[1]


def test_pictures_of_other_proportions_are_refused(tmp_path):
    write_scene(tmp_path)
    Image.fromarray(picture(0, 30, 40)).save(tmp_path / "images/000.png")
    with pytest.raises(ValueError, match="proportions"):
        ColmapDataset(tmp_path)


def test_a_scene_without_points_is_refused_unless_allowed(tmp_path):
    write_scene(tmp_path, points=0)
    with pytest.raises(ValueError, match="require_points=False"):
        ColmapDataset(tmp_path)
    assert len(ColmapDataset(tmp_path, require_points=False, split="all")) == 6


# ------------------------------------------------------------------ distortion


def scene_with_lines(root, camera):
    """Pictures of white dots on black at the distorted projections of 3D points."""
    import cv2

    model = make_model(count=2, camera=camera, points=12, seed=3)
    centres = []
    for image in model.images.values():
        view = image.viewmat
        local = model.points3D.xyz * 0.6 @ view[:3, :3].T + view[:3, 3]
        K = camera.K - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
        zero = np.zeros(3)
        if "FISHEYE" in camera.model:
            pixels = cv2.fisheye.projectPoints(local[:, None], zero, zero, K, camera.distortion)[0]
        else:
            pixels = cv2.projectPoints(local, zero, zero, K, camera.distortion)[0]
        pixels = pixels.reshape(-1, 2)
        x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
        canvas = np.zeros((camera.height, camera.width))
        for u, v in pixels:
            canvas = np.maximum(canvas, np.exp(-((x - u) ** 2 + (y - v) ** 2) / 8))
        path = root / "images" / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((canvas[..., None] * [255, 255, 255]).astype(np.uint8)).save(path)
        centres.append(model.points3D.xyz * 0.6)
    write_colmap_model(model, root / "sparse/0")
    return centres[0]


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("OPENCV", [300, 305, 161, 118, -0.25, 0.08, 0.002, -0.003]),
        ("SIMPLE_RADIAL", [300, 160, 120, 0.15]),
        ("OPENCV_FISHEYE", [300, 300, 160, 120, 0.05, -0.01, 0.003, 0.0]),
    ],
)
def test_undistorted_pictures_show_points_where_the_camera_projects_them(tmp_path, kind, params):
    points = scene_with_lines(tmp_path, ColmapCamera(1, kind, 320, 240, params))
    with pytest.raises(ValueError, match="undistort=True"):
        ColmapDataset(tmp_path, split="all")
    dataset = ColmapDataset(tmp_path, split="all", undistort=True)
    for row in range(2):
        item = dataset[row]
        image = item["inputs"]["img"][0].float() / 255
        pixels = item["data_samples"].camera.project(torch.from_numpy(points))[0][0]
        x, y = (pixels - 0.5).round().long().unbind(-1)
        inside = (x > 3) & (x < 316) & (y > 3) & (y < 236)
        assert int(inside.sum()) >= 8
        # The dots have a radius of 2 px: half a pixel off leaves 0.94, one pixel 0.88.
        assert float(image[y[inside], x[inside]].min()) > 0.88
        # No blank border is left: the picture's edge came from inside the source.
        assert item["inputs"]["img"].shape == (3, 240, 320)


def test_models_that_opencv_lacks_are_refused(tmp_path):
    camera = ColmapCamera(1, "FOV", WIDTH, HEIGHT, [50, 50, 20, 15, 0.5])
    write_scene(tmp_path, camera=camera)
    with pytest.raises(ValueError, match="FOV"):
        ColmapDataset(tmp_path, undistort=True)


# ------------------------------------------------------------------ transforms.json


def test_transforms_json_gives_the_same_items_as_colmap(tmp_path):
    model = write_scene(tmp_path)
    write_transforms(tmp_path, model)
    plain = ColmapDataset(tmp_path, split="test", resize=dict(factor=2))
    nerf = NerfstudioDataset(tmp_path, split="test", resize=dict(factor=2))
    assert len(plain) == len(nerf) == 1
    a, b = plain[0], nerf[0]
    torch.testing.assert_close(a["inputs"]["img"], b["inputs"]["img"])
    torch.testing.assert_close(a["data_samples"].camera.Ks, b["data_samples"].camera.Ks)
    torch.testing.assert_close(
        a["data_samples"].camera.viewmats, b["data_samples"].camera.viewmats, atol=1e-5, rtol=0
    )
    assert plain.scene_extent == pytest.approx(nerf.scene_extent, rel=1e-5)


def test_transforms_lists_masks_and_frame_intrinsics(tmp_path):
    model = make_model()
    data = write_transforms(
        tmp_path,
        model,
        train_filenames=["images/000.png", "./images/001.png"],
        test_filenames=["images/004.png"],
    )
    data["frames"][0]["fl_x"] = 77.0
    data["frames"][1]["mask_path"] = "m.png"
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(tmp_path / "m.png")
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    train = NerfstudioDataset(tmp_path)
    assert train.img_names == ["images/000.png", "images/001.png"]
    assert train.cameras.Ks[:, 0, 0].tolist() == [77.0, 50.0]
    assert not train[1]["inputs"]["mask"].any()
    assert NerfstudioDataset(tmp_path, split="test").img_names == ["images/004.png"]


def test_blender_files_and_angles(tmp_path):
    model = make_model()
    data = write_transforms(tmp_path, model)
    (tmp_path / "transforms.json").unlink()
    for part, rows in (("train", [0, 1]), ("test", [2, 3])):
        frames = [dict(data["frames"][row]) for row in rows]
        for frame in frames:
            frame["file_path"] = frame["file_path"].removesuffix(".png")
        file = tmp_path / f"transforms_{part}.json"
        file.write_text(json.dumps({"camera_angle_x": np.pi / 2, "frames": frames}))
    dataset = NerfstudioDataset(tmp_path, split="test")
    assert dataset.img_names == ["images/002", "images/003"]
    assert dataset.cameras.Ks[0, 0, 0].item() == pytest.approx(WIDTH / 2)
    assert int(dataset[0]["inputs"]["img"][0, 0, 0]) == 2


def test_applied_transform_is_undone(tmp_path):
    from mmcity.datasets.io import write_point_ply

    model = make_model()
    data = write_transforms(tmp_path, model)
    applied = np.array([[0, 1, 0, 0.5], [1, 0, 0, 0], [0, 0, -1, 2.0]])
    for frame in data["frames"]:
        pose = np.array(frame["transform_matrix"])
        pose[:3] = applied[:, :3] @ pose[:3]
        pose[:3, 3] += applied[:, 3]
        pose[:3, 3] *= 0.1
        frame["transform_matrix"] = pose.tolist()
    data.update(applied_transform=applied.tolist(), applied_scale=0.1, ply_file_path="p.ply")
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    moved = 0.1 * (model.points3D.xyz @ applied[:, :3].T + applied[:, 3])
    write_point_ply(tmp_path / "p.ply", moved, model.points3D.rgb)
    kept = NerfstudioDataset(tmp_path, split="all")
    np.testing.assert_allclose(kept.points3D.xyz, moved, atol=1e-6)
    dataset = NerfstudioDataset(tmp_path, split="all", undo_applied_transform=True)
    np.testing.assert_allclose(dataset.points3D.xyz, model.points3D.xyz, atol=1e-5)
    np.testing.assert_array_equal(dataset.points3D.rgb, model.points3D.rgb)
    for frame_of in (kept, dataset):
        pixels = frame_of.cameras.project(torch.from_numpy(frame_of.points3D.xyz).float())[0]
        np.testing.assert_allclose(pixels[3], features_of(model, 3), atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["frames"][1].update(transform_matrix=[[1, 2], [3, 4]]), "frame 1"),
        (lambda d: d["frames"][1]["transform_matrix"][0].__setitem__(0, float("nan")), "frame 1"),
        (lambda d: d["frames"][0].update(transform_matrix=(2 * np.eye(4)).tolist()), "rotation"),
        (lambda d: d["frames"][0].pop("file_path"), "file_path"),
        (lambda d: d.update(frames=[]), "empty"),
        (lambda d: d.update(frames=7), "frames"),
        (lambda d: d.update(fl_x="wide"), "fl_x"),
        (lambda d: d.update(fl_x=-3), "focal"),
        (lambda d: d.update(w=0), "size"),
        (lambda d: d.update(camera_model="EQUIRECTANGULAR"), "EQUIRECTANGULAR"),
        (lambda d: [d.pop("fl_x"), d.pop("fl_y")], "camera_angle_x"),
    ],
)
def test_broken_transforms_give_one_error(tmp_path, change, message):
    data = write_transforms(tmp_path, make_model())
    change(data)
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message) as error:
        NerfstudioDataset(tmp_path)
    assert "transforms.json" in str(error.value)


def test_transforms_that_are_no_json(tmp_path):
    write_transforms(tmp_path, make_model())
    (tmp_path / "transforms.json").write_bytes(b"\xff{]")
    with pytest.raises(ValueError, match="transforms.json: expected JSON"):
        NerfstudioDataset(tmp_path)


# ------------------------------------------------------------------ real captures


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "train", "test", "size"),
    [
        ("fox", 44, 6, (269, 480)),
        ("sceaux_castle", 9, 2, (480, 356)),
        ("caliterra_aerial", 50, 7, (480, 361)),
        ("redkitchen_reloc", 80, 20, (480, 358)),
    ],
)
def test_real_captures_open(name, train, test, size):
    root = real_data_dir(name)
    dataset = ColmapDataset(root, resize=dict(long_side=480))
    held = ColmapDataset(root, split="test", resize=dict(long_side=480))
    assert (len(dataset), len(held)) == (train, test)
    assert dataset.cameras.one_size() == size
    item = held[test - 1]
    assert item["inputs"]["img"].shape == (3, size[1], size[0])
    # Points carry the colour of the pixels they project to.
    points = torch.from_numpy(held.points3D.xyz)
    pixels, depths = item["data_samples"].camera.project(points.float())
    x, y = pixels[0].floor().long().unbind(-1)
    inside = (depths[0] > 0) & (x >= 0) & (x < size[0]) & (y >= 0) & (y < size[1])
    seen = item["inputs"]["img"][:, y[inside], x[inside]].T.float()
    colors = torch.from_numpy(held.points3D.rgb)[inside].float()
    assert np.corrcoef(seen.mean(1), colors.mean(1))[0, 1] > 0.6


@given(st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_mutated_transforms_read_or_give_one_error(tmp_path, data):
    path = tmp_path / "transforms.json"
    if not path.is_file():
        top = {"k1": 0.0, "camera_model": "OPENCV", "train_filenames": ["images/000.png"]}
        (tmp_path / "whole.json").write_text(
            json.dumps(write_transforms(tmp_path, make_model(count=2), **top))
        )
    whole = json.loads((tmp_path / "whole.json").read_text())
    odd = st.sampled_from([None, "x", -1, 0, 1e308, float("nan"), [], {}, [1], {"a": 1}, True, ""])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from([whole, *(f for f in whole["frames"])]))
        key = data.draw(st.sampled_from(sorted(place)))
        if key != "frames":
            place[key] = data.draw(odd)
    path.write_text(json.dumps(whole))
    try:
        NerfstudioDataset(tmp_path)
    except (ValueError, FileNotFoundError) as error:
        assert str(tmp_path) in str(error)


def test_masks_of_any_mode_mean_nonzero(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:5] = 7
    opaque = np.full_like(mask, 255)
    write_scene(tmp_path)
    (tmp_path / "masks").mkdir()
    pictures = {
        "000": Image.fromarray(mask > 0),
        "001": Image.fromarray(np.stack([mask, opaque], -1)),
        "002": Image.fromarray(np.stack([mask * 0, mask, mask, opaque], -1)),
        "003": Image.fromarray(mask.astype(np.uint16)),
        "004": Image.fromarray(np.repeat(np.repeat(mask, 2, 0), 2, 1)),
    }
    for name, image in pictures.items():
        image.save(tmp_path / f"masks/{name}.png")
    dataset = ColmapDataset(tmp_path, split="all", mask_dir="masks")
    for index in range(5):
        np.testing.assert_array_equal(dataset[index]["inputs"]["mask"], mask > 0)


def test_datasets_travel_to_workers(tmp_path):
    write_scene(tmp_path)
    dataset = ColmapDataset(tmp_path, split="all", preload=True)
    loader = DataLoader(dataset, batch_size=2, num_workers=1, collate_fn=pseudo_collate)
    names = [s.img_name for batch in loader for s in batch["data_samples"]]
    assert names == dataset.img_names
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(copy.cache) == 0
    torch.testing.assert_close(copy[3]["inputs"]["img"], dataset[3]["inputs"]["img"])


def test_selection_images_are_neither_trained_on_nor_tested(tmp_path):
    write_scene(tmp_path)
    every = ColmapDataset(tmp_path, split="all").img_names
    parts = {
        split: ColmapDataset(
            tmp_path, split=split, split_by="every_n", every_n=4, selection_every=2
        ).img_names
        for split in ("train", "selection", "test")
    }
    assert sorted(sum(parts.values(), [])) == every
    assert len(parts["selection"]) == (len(every) - len(parts["test"])) // 2
    with pytest.raises(ValueError, match="selection_every"):
        ColmapDataset(tmp_path, split="selection")


def test_fraction_spreads_the_training_images(tmp_path):
    write_scene(tmp_path)
    every = ColmapDataset(tmp_path, split="all").img_names
    train = ColmapDataset(tmp_path, split_by="fraction", train_fraction=0.5).img_names
    rows = [every.index(name) for name in train]
    assert len(rows) == len(every) // 2 and rows[0] == 0 and rows[-1] == len(every) - 1
    test = ColmapDataset(tmp_path, split="test", split_by="fraction", train_fraction=0.5).img_names
    assert sorted(train + test) == every
    with pytest.raises(ValueError, match="train_fraction"):
        ColmapDataset(tmp_path, split_by="fraction", train_fraction=0.0)
