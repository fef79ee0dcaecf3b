"""The thirteen tables of nuScenes, filled from recorded key frames."""

import hashlib
from pathlib import Path

import numpy as np

from mmcity.structures import geometry
from mmcity.toytown.sensors.rigs import LIDAR_TO_EGO, RigCamera
from mmcity.utils.fileio import write_json

#: Detection name: nuScenes category and what its attribute is about.
_CATEGORIES = {
    "barrier": ("movable_object.barrier", None),
    "bicycle": ("vehicle.bicycle", "cycle"),
    "bus": ("vehicle.bus.rigid", "vehicle"),
    "car": ("vehicle.car", "vehicle"),
    "construction_vehicle": ("vehicle.construction", "vehicle"),
    "motorcycle": ("vehicle.motorcycle", "cycle"),
    "pedestrian": ("human.pedestrian.adult", "pedestrian"),
    "traffic_cone": ("movable_object.trafficcone", None),
    "trailer": ("vehicle.trailer", "vehicle"),
    "truck": ("vehicle.truck", "vehicle"),
}
_ATTRIBUTES = (
    *("vehicle.moving", "vehicle.stopped", "vehicle.parked", "cycle.with_rider"),
    *("cycle.without_rider", "pedestrian.moving", "pedestrian.standing"),
)
#: Borders of the visibility levels 1..4.
_VISIBILITY = (0.4, 0.6, 0.8)
_LEVELS = ("v0-40", "v40-60", "v60-80", "v80-100")
#: Slower than this a thing stands, metres per second.
_STANDING = 0.2


def token(*parts: object) -> str:
    """32 hexadecimal digits that stand for a name."""
    return hashlib.md5("/".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


class SceneRecord:
    """Record of a scene for its tables.

    Args:
        name: Scene name.
        log: Name of the log; files are called after it.
        description: Shown by the devkit.
        frames: Per key frame and in order, what the writer recorded: ``timestamp`` (int, us),
            ``ego_pose`` (4x4), ``boxes`` (list of dicts), ``sweeps`` (list of dicts with
            ``timestamp``, ``ego_pose``) that lie before the next key frame.
    """

    def __init__(self, name: str, log: str, description: str, frames: list[dict]) -> None:
        self.name, self.log, self.description, self.frames = name, log, description, frames

    def sample(self, index: int) -> str:
        """Token of a key frame; empty outside the scene, as the tables want it."""
        return token(self.log, "sample", index) if 0 <= index < len(self.frames) else ""


def _attribute(box: dict) -> list[str]:
    kind = _CATEGORIES[box["name"]][1]
    if kind is None:
        return []
    moving = box["speed"] > _STANDING
    if kind == "cycle":
        name = "cycle.with_rider" if box["is_ridden"] else "cycle.without_rider"
    elif kind == "pedestrian":
        name = "pedestrian.moving" if moving else "pedestrian.standing"
    elif moving:
        name = "vehicle.moving"
    else:
        name = "vehicle.stopped" if box["is_agent"] else "vehicle.parked"
    return [token("attribute", name)]


def _quat(rotation: np.ndarray) -> list[float]:
    return [float(v) for v in geometry.rotmat_to_quat(np.asarray(rotation, dtype=np.float64))]


def _pose_row(key: str, timestamp: int, pose: np.ndarray) -> dict:
    pose = np.asarray(pose)
    return {
        "token": key,
        "timestamp": timestamp,
        "rotation": _quat(pose[:3, :3]),
        "translation": pose[:3, 3].tolist(),
    }


def fill_tables(scenes: list[SceneRecord], rig: list[RigCamera], location: str) -> dict:
    """Rows of all tables but ``map``, by table name."""
    tables: dict[str, list] = {
        "category": [
            {"token": token("category", name), "name": name, "description": key, "index": i + 1}
            for i, (key, (name, _)) in enumerate(sorted(_CATEGORIES.items()))
        ],
        "attribute": [
            {"token": token("attribute", name), "name": name, "description": name}
            for name in _ATTRIBUTES
        ],
        "visibility": [
            {"token": str(i + 1), "level": level, "description": "share in view of the cameras"}
            for i, level in enumerate(_LEVELS)
        ],
        "sensor": [
            {"token": token("sensor", camera.name), "channel": camera.name, "modality": "camera"}
            for camera in rig
        ]
        + [{"token": token("sensor", "LIDAR_TOP"), "channel": "LIDAR_TOP", "modality": "lidar"}],
    }
    for name in ("calibrated_sensor", "ego_pose", "instance", "log", "sample",
                 "sample_annotation", "sample_data", "scene"):  # fmt: skip
        tables[name] = []
    for scene in scenes:
        _fill_scene(tables, scene, rig, location)
    return tables


def _fill_scene(tables: dict, scene: SceneRecord, rig: list[RigCamera], location: str) -> None:
    log = scene.log
    tables["log"].append(
        {
            "token": token(log, "log"),
            "logfile": log,
            "vehicle": "toytown",
            "date_captured": "2020-01-01",
            "location": location,
        }
    )
    tables["scene"].append(
        {
            "token": token(log, "scene"),
            "log_token": token(log, "log"),
            "nbr_samples": len(scene.frames),
            "first_sample_token": scene.sample(0),
            "last_sample_token": scene.sample(len(scene.frames) - 1),
            "name": scene.name,
            "description": scene.description,
        }
    )
    sensors = [(c.name, c.cam_to_ego, c.K.tolist()) for c in rig]
    for channel, pose, intrinsic in [*sensors, ("LIDAR_TOP", LIDAR_TO_EGO, [])]:
        tables["calibrated_sensor"].append(
            {
                "token": token(log, "calibrated", channel),
                "sensor_token": token("sensor", channel),
                "translation": np.asarray(pose)[:3, 3].tolist(),
                "rotation": _quat(np.asarray(pose)[:3, :3]),
                "camera_intrinsic": intrinsic,
            }
        )
    for index, frame in enumerate(scene.frames):
        tables["sample"].append(
            {
                "token": scene.sample(index),
                "timestamp": frame["timestamp"],
                "prev": scene.sample(index - 1),
                "next": scene.sample(index + 1),
                "scene_token": token(log, "scene"),
            }
        )
    for camera in rig:
        shots = [(i, f["timestamp"], f["ego_pose"], True) for i, f in enumerate(scene.frames)]
        _fill_channel(tables, scene, camera.name, shots, (camera.height, camera.width))
    shots = []
    for i, frame in enumerate(scene.frames):
        shots.append((i, frame["timestamp"], frame["ego_pose"], True))
        shots += [(i, s["timestamp"], s["ego_pose"], False) for s in frame["sweeps"]]
    _fill_channel(tables, scene, "LIDAR_TOP", shots, (0, 0))
    _fill_annotations(tables, scene)


def _fill_channel(
    tables: dict, scene: SceneRecord, channel: str, shots: list[tuple], size: tuple[int, int]
) -> None:
    suffix = "pcd.bin" if channel == "LIDAR_TOP" else "jpg"
    keys = [token(scene.log, channel, stamp) for _, stamp, _, _ in shots]
    for k, (index, stamp, pose, is_key) in enumerate(shots):
        # The pose of a sensor's shot has the shot's token, as in nuScenes.
        tables["ego_pose"].append(_pose_row(keys[k], stamp, pose))
        folder = "samples" if is_key else "sweeps"
        tables["sample_data"].append(
            {
                "token": keys[k],
                "sample_token": scene.sample(index),
                "ego_pose_token": keys[k],
                "calibrated_sensor_token": token(scene.log, "calibrated", channel),
                "timestamp": stamp,
                "fileformat": suffix.split(".")[0],
                "is_key_frame": is_key,
                "height": size[0],
                "width": size[1],
                "filename": f"{folder}/{channel}/{scene.log}__{channel}__{stamp}.{suffix}",
                "prev": keys[k - 1] if k else "",
                "next": keys[k + 1] if k + 1 < len(keys) else "",
            }
        )


def _fill_annotations(tables: dict, scene: SceneRecord) -> None:
    tracks: dict[int, list[tuple[int, dict]]] = {}
    for index, frame in enumerate(scene.frames):
        for box in frame["boxes"]:
            tracks.setdefault(box["instance"], []).append((index, box))
    for instance, track in sorted(tracks.items()):
        key = token(scene.log, "instance", instance)
        rows = [token(scene.log, "annotation", instance, index) for index, _ in track]
        tables["instance"].append(
            {
                "token": key,
                "category_token": token("category", _CATEGORIES[track[0][1]["name"]][0]),
                "nbr_annotations": len(track),
                "first_annotation_token": rows[0],
                "last_annotation_token": rows[-1],
            }
        )
        for k, (index, box) in enumerate(track):
            length, width, height = box["size"]
            half = box["yaw"] / 2
            level = 1 + int(np.searchsorted(_VISIBILITY, box["share_seen"], side="right"))
            tables["sample_annotation"].append(
                {
                    "token": rows[k],
                    "sample_token": scene.sample(index),
                    "instance_token": key,
                    "visibility_token": str(level),
                    "attribute_tokens": _attribute(box),
                    "translation": box["center"],
                    "size": [width, length, height],
                    "rotation": [float(np.cos(half)), 0.0, 0.0, float(np.sin(half))],
                    "prev": rows[k - 1] if k else "",
                    "next": rows[k + 1] if k + 1 < len(rows) else "",
                    "num_lidar_pts": box["num_lidar_pts"],
                    "num_radar_pts": 0,
                }
            )


def write_tables(folder: Path, tables: dict) -> None:
    """Write one JSON file per table."""
    for name, rows in tables.items():
        write_json(folder / f"{name}.json", rows, indent=0)
