"""The nuScenes tree, read back by this toolbox's readers and by nuscenes-devkit."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmcity.datasets import NuScenesOccDataset
from mmcity.datasets.converters import convert_nuscenes
from mmcity.datasets.io.info_pickle import load_info_pickle
from mmcity.datasets.io.occupancy_files import read_occ3d_nuscenes_frame
from mmcity.models.gausstr import load_prototypes
from mmcity.structures import geometry
from mmcity.toytown import ToytownConfig
from mmcity.toytown.truth.feature_maps import TOYTOWN_VOCABULARY
from mmcity.toytown.world.taxonomy import label_map
from mmcity.toytown.writers import write_nuscenes
from tests.cli.conftest import call_tool

SIZE = (96, 56)
LOW, VOXEL = np.array([-40.0, -40.0, -1.0]), 0.4


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nuscenes") / "nuscenes"
    write_nuscenes(folder, ToytownConfig(seed=3, blocks=(1, 2)), SIZE, num_scenes=2, num_frames=2)
    convert_nuscenes(folder, version="v1.0-mini", check_files=True)
    return folder


def infos(town, split="train"):
    return load_info_pickle(town / f"nuscenes_infos_{split}.pkl")["data_list"]


def lidar_points(town, info):
    path = town / "samples/LIDAR_TOP" / info["lidar_points"]["lidar_path"]
    return np.fromfile(path, dtype="<f4").reshape(-1, 5)


def test_scenes_bear_official_names_of_their_splits(town):
    splits = json.loads((town / "v1.0-mini/splits.json").read_text())
    assert splits == {"train": ["scene-0061"], "val": ["scene-0103"]}
    assert [i["scene_idx"] for i in infos(town)] == ["scene-0061"] * 2
    assert [i["sample_idx"] for i in infos(town, "val")] == [0, 1]


def test_lidar_falls_into_occupied_voxels_and_onto_the_depth_maps(town):
    for info in infos(town):
        points = lidar_points(town, info)[:, :3].astype(np.float64)
        ego = geometry.transform_points(np.array(info["lidar_points"]["lidar2ego"]), points)
        cells = np.floor((ego - LOW) / VOXEL).astype(int)
        inside = ((cells >= 0) & (cells < (200, 200, 16))).all(1)
        labels, mask_lidar, mask_camera = read_occ3d_nuscenes_frame(
            town / "gts" / info["scene_idx"] / info["token"] / "labels.npz"
        )
        i, j, k = cells[inside].T
        # A return on the border of a voxel may be rounded into the one beside it.
        assert (labels[i, j, k] != 17).mean() > 0.97
        assert mask_lidar[i, j, k].mean() > 0.97
        share = mask_camera.mean()
        assert 0.05 < share < 0.9
        for camera, image in info["images"].items():
            local = geometry.transform_points(np.array(image["lidar2cam"]), points)
            local = local[local[:, 2] > 1.0]
            pixels = local @ np.array(image["cam2img"]).T
            pixels = pixels[:, :2] / pixels[:, 2:]
            seen = ((pixels > 1) & (pixels < np.array(SIZE) - 1)).all(1)
            depth = np.load(town / "depth" / (image["img_path"].split(".")[0] + ".npy"))
            cols, rows = pixels[seen].astype(int).T
            steps = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)]
            around = np.stack([depth[rows + r, cols + c] for r, c in steps]).astype(np.float64)
            # Within the depths of the pixels around it; a return may lie behind what hides it
            # from the camera, which stands elsewhere, but hardly before what the camera sees.
            nearer = local[seen, 2] < 0.99 * around.min(0)
            farther = local[seen, 2] > 1.01 * around.max(0)
            assert nearer.mean() < 0.01, camera
            assert farther.mean() < 0.1, camera


def test_boxes_hold_the_points_that_they_count(town):
    counted = 0
    for info in infos(town) + infos(town, "val"):
        points = lidar_points(town, info)[:, :3].astype(np.float64)
        for instance in info["instances"]:
            x, y, z, length, width, height, yaw = instance["bbox_3d"]
            turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
            local = np.abs(np.column_stack([(points[:, :2] - (x, y)) @ turn.T, points[:, 2] - z]))
            held = (local <= np.array([length, width, height]) / 2 + 0.05).all(1).sum()
            assert held >= instance["num_lidar_pts"]  # and perhaps some of the ground
            counted += instance["num_lidar_pts"]
    assert counted > 500


def test_features_are_named_by_their_prompts(town):
    embeds, vocabulary = load_prototypes(town / "features/prototypes.npz")
    assert len(vocabulary.prompts) == len(TOYTOWN_VOCABULARY)
    label_of = np.repeat(vocabulary.labels, vocabulary.groups)
    right = total = 0
    for path in sorted((town / "features").glob("*.npy")):
        features = torch.from_numpy(np.load(path).astype(np.float32)).flatten(1).T
        named = label_of[(features @ embeds).argmax(1).numpy()]
        with np.load(town / "truth" / f"{path.stem}.npz") as truth:
            classes = truth["classes"]
        h, w = classes.shape[0] // 8, classes.shape[1] // 8
        cells = classes.reshape(h, 8, w, 8).transpose(0, 2, 1, 3).reshape(h * w, 64)
        pure = (cells == cells[:, :1]).all(1)
        right += (named == label_map("occ3d_nuscenes")[cells[:, 0]])[pure].sum()
        total += pure.sum()
    assert right / total > 0.9  # of the cells, 5 % are made to look like another class


@pytest.mark.slow
def test_a_second_run_gives_equal_bytes(town, tmp_path):
    again = write_nuscenes(
        tmp_path / "again", ToytownConfig(seed=3, blocks=(1, 2)), SIZE, num_scenes=2, num_frames=2
    )
    first, second = (json.loads((f / "toytown.json").read_text()) for f in (town, again))
    assert first["sha256"] == second["sha256"]


def test_dataset_reads_neighbours_and_paths(town):
    data = NuScenesOccDataset("nuscenes_infos_train.pkl", str(town))
    info = data.get_data_info(1)
    assert info["occ_path"].endswith(f"gts/scene-0061/{info['token']}")
    assert len(info["images"]) == 6


def test_nuscenes_devkit_opens_the_tables(town):
    if importlib.util.find_spec("nuscenes") is None:
        pytest.skip("nuscenes-devkit is not installed (requirements/det3d-nodeps.txt)")
    from nuscenes.nuscenes import NuScenes
    from nuscenes.utils.data_classes import LidarPointCloud

    devkit = NuScenes(version="v1.0-mini", dataroot=str(town), verbose=False)
    assert [scene["name"] for scene in devkit.scene] == ["scene-0061", "scene-0103"]
    ours = infos(town)[0]
    sample = devkit.get("sample", ours["token"])
    path, boxes, _ = devkit.get_sample_data(sample["data"]["LIDAR_TOP"])
    assert len(boxes) == len(ours["instances"])
    centres = np.array(sorted(b.center.tolist() for b in boxes))
    np.testing.assert_allclose(
        centres, sorted(i["bbox_3d"][:3] for i in ours["instances"]), atol=1e-6
    )
    np.testing.assert_array_equal(
        LidarPointCloud.from_file(path).points.T[:, :3], lidar_points(town, ours)[:, :3]
    )
    # Ten sweeps a second lie between key frames.
    token, times = sample["data"]["LIDAR_TOP"], []
    while token:
        row = devkit.get("sample_data", token)
        times.append(row["timestamp"])
        token = row["next"]
    np.testing.assert_array_equal(np.diff(times), 100_000)
    for camera in ours["images"]:
        file, _, _ = devkit.get_sample_data(sample["data"][camera])
        assert file.endswith(ours["images"][camera]["img_path"])
    devkit.render_sample_data(sample["data"]["LIDAR_TOP"], underlay_map=False, verbose=False)


def test_lidar_is_drawn_over_the_images(town, tmp_path):
    words = [town / "nuscenes_infos_val.pkl", "--root", town, "--out", tmp_path]
    call_tool("tools/analysis_tools/project_lidar.py", *words, "--frames", 1, "--width", 48)
    (path,) = tmp_path.glob("*.png")
    assert Image.open(path).width >= 3 * 48
