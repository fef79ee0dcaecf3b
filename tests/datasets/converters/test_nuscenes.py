"""Info files from raw tables, checked against the published info of a real key frame."""

import json

import numpy as np
import pytest

from mmcity.cli.main import dispatch
from mmcity.datasets.io.info_pickle import load_info_pickle
from mmcity.datasets.io.nuscenes_tables import (
    DETECTION_CLASSES,
    NuScenesTableError,
    NuScenesTables,
    scene_splits,
)
from mmcity.structures import geometry
from tests.cli.conftest import call_tool
from tests.conftest import real_data_dir


def pose_row(token, matrix, **more):
    matrix = np.asarray(matrix, dtype=np.float64)
    # Published matrices are float32: the quaternion of the nearest rotation.
    left, _, right = np.linalg.svd(matrix[:3, :3])
    return {
        "token": token,
        "rotation": geometry.rotmat_to_quat(left @ right).tolist(),
        "translation": matrix[:3, 3].tolist(),
        **more,
    }


def write_tables(folder, info):
    """The raw tables that lead to an info: poses of each sensor, boxes in the global frame."""
    ego_to_global = np.asarray(info["ego2global"])
    lidar_to_ego = np.asarray(info["lidar_points"]["lidar2ego"])
    lidar_to_global = ego_to_global @ lidar_to_ego
    stamp = round(info["timestamp"] * 1e6)
    tables = {name: [] for name in ("attribute", "log", "map", "visibility")}
    tables["sensor"] = [{"token": "LIDAR_TOP", "channel": "LIDAR_TOP", "modality": "lidar"}]
    tables["calibrated_sensor"] = [
        pose_row("c_lidar", lidar_to_ego, sensor_token="LIDAR_TOP", camera_intrinsic=[])
    ]
    tables["ego_pose"] = [pose_row("e_lidar", ego_to_global, timestamp=stamp)]
    shot = {"sample_token": info["token"], "is_key_frame": True, "prev": "", "next": ""}
    tables["sample_data"] = [
        {**shot, "token": "d_lidar", "ego_pose_token": "e_lidar", "timestamp": stamp,
         "calibrated_sensor_token": "c_lidar", "height": 0, "width": 0,
         "filename": "samples/LIDAR_TOP/" + info["lidar_points"]["lidar_path"]}
    ]  # fmt: skip
    for name, image in info["images"].items():
        cam_to_ego = np.asarray(image["cam2ego"])
        cam_to_global = lidar_to_global @ np.linalg.inv(np.asarray(image["lidar2cam"]))
        tables["sensor"].append({"token": name, "channel": name, "modality": "camera"})
        tables["calibrated_sensor"].append(
            pose_row(f"c{name}", cam_to_ego, sensor_token=name, camera_intrinsic=image["cam2img"])
        )
        tables["ego_pose"].append(pose_row(f"e{name}", cam_to_global @ np.linalg.inv(cam_to_ego)))
        tables["sample_data"].append(
            {**shot, "token": image["sample_data_token"], "ego_pose_token": f"e{name}",
             "calibrated_sensor_token": f"c{name}", "timestamp": round(image["timestamp"] * 1e6),
             "filename": f"samples/{name}/{image['img_path']}",
             "height": image["height"], "width": image["width"]}
        )  # fmt: skip
    names = {"car": "vehicle.car", "pedestrian": "human.pedestrian.adult",
             "barrier": "movable_object.barrier", "truck": "vehicle.truck",
             "traffic_cone": "movable_object.trafficcone", "bus": "vehicle.bus.rigid",
             "trailer": "vehicle.trailer", "construction_vehicle": "vehicle.construction",
             "bicycle": "vehicle.bicycle", "motorcycle": "vehicle.motorcycle",
             "other": "movable_object.debris"}  # fmt: skip
    tables["category"] = [{"token": key, "name": value} for key, value in names.items()]
    tables["instance"], tables["sample_annotation"] = [], []
    for number, box in enumerate(info["instances"]):
        x, y, z, length, width, height, yaw = box["bbox_3d"]
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = turn, (x, y, z)
        label = box["bbox_label_3d"]
        category = DETECTION_CLASSES[label] if label >= 0 else "other"
        tables["instance"].append({"token": f"i{number}", "category_token": category})
        tables["sample_annotation"].append(
            pose_row(
                f"a{number}", lidar_to_global @ pose, sample_token=info["token"],
                instance_token=f"i{number}", size=[width, length, height], prev="", next="",
                num_lidar_pts=box["num_lidar_pts"], num_radar_pts=0,
            )
        )  # fmt: skip
    scene = info["scene_token"]
    tables["sample"] = [
        {"token": info["token"], "timestamp": stamp, "prev": "", "next": "", "scene_token": scene}
    ]
    tables["scene"] = [
        {"token": scene, "name": info["scene_idx"], "first_sample_token": info["token"]}
    ]
    folder.mkdir(parents=True)
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))


@pytest.mark.real_data
def test_tables_lead_to_the_published_info(tmp_path):
    published = load_info_pickle(real_data_dir("nuscenes_sample") / "nuscenes_infos_val.pkl")
    published = published["data_list"][0]
    write_tables(tmp_path / "v1.0-mini", published)
    call_tool("tools/dataset_converters/nuscenes_converter.py", tmp_path, "--version", "v1.0-mini")
    # scene-0061 belongs to the training scenes of v1.0-mini.
    made = load_info_pickle(tmp_path / "nuscenes_infos_train.pkl")["data_list"][0]
    for key in ("token", "scene_token", "scene_idx"):
        assert made[key] == published[key]
    assert made["timestamp"] == pytest.approx(published["timestamp"], abs=1e-6)
    np.testing.assert_allclose(made["ego2global"], published["ego2global"], atol=1e-5)
    assert list(made["images"]) == list(published["images"])
    for name, image in published["images"].items():
        for key in ("cam2img", "cam2ego", "lidar2cam"):
            np.testing.assert_allclose(made["images"][name][key], image[key], atol=2e-4)
        for key in ("img_path", "sample_data_token", "height", "width"):
            assert made["images"][name][key] == image[key]
    assert len(made["instances"]) == len(published["instances"])
    for ours, theirs in zip(made["instances"], published["instances"]):
        assert ours["bbox_label_3d"] == theirs["bbox_label_3d"]
        difference = np.array(ours["bbox_3d"]) - theirs["bbox_3d"]
        difference[6] = (difference[6] + np.pi) % (2 * np.pi) - np.pi
        # The lidar leans a little; a yaw about its own axis is nearly that about the world's.
        assert np.abs(difference[:6]).max() < 1e-3 and abs(difference[6]) < 1e-2


def test_tables_that_lack_something_are_named(tmp_path):
    with pytest.raises(NuScenesTableError, match=r"v1\.0-mini: expected .*, found"):
        NuScenesTables(tmp_path, "v1.0-mini")
    (tmp_path / "v1.0-mini").mkdir()
    with pytest.raises(
        NuScenesTableError, match=r"calibrated_sensor\.json: expected a table, found"
    ):
        dispatch(["data", "nuscenes", str(tmp_path), "--version", "v1.0-mini"])
    (tmp_path / "v1.0-mini" / "calibrated_sensor.json").write_text("{")
    with pytest.raises(NuScenesTableError, match="expected rows with tokens"):
        NuScenesTables(tmp_path, "v1.0-mini")


@pytest.mark.parametrize(
    ("version", "name", "split"),
    [("v1.0-test", "scene-9", "test"), ("v1.0-mini", "scene-0103", "val"),
     ("v1.0-trainval", "scene-0002", "train")],
)  # fmt: skip
def test_splits(tmp_path, version, name, split):
    folder = tmp_path / version
    folder.mkdir()
    for table in ("calibrated_sensor", "category", "ego_pose", "instance", "sample",
                  "sample_annotation", "sample_data", "sensor"):  # fmt: skip
        (folder / f"{table}.json").write_text("[]")
    (folder / "scene.json").write_text(json.dumps([{"token": "s", "name": name}]))
    tables = NuScenesTables(tmp_path, version)
    official = {"train": ["scene-0001", "scene-0002"], "val": []}
    assert scene_splits(tables, lambda: official) == {split: [name]}
    (folder / "splits.json").write_text(json.dumps({"mine": [name]}))
    assert scene_splits(tables) == {"mine": [name]}
    (folder / "splits.json").write_text(json.dumps({"mine": []}))
    with pytest.raises(NuScenesTableError, match="expected splits of scenes, got none"):
        scene_splits(tables)


def test_missing_info_file_names_its_converter(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"mmcity data nuscenes {tmp_path} --version"):
        load_info_pickle(tmp_path / "nuscenes_infos_train.pkl")
