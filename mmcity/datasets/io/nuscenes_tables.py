"""Raw nuScenes tables and what an info file (format v2) takes from them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmcity.structures import geometry
from mmcity.utils.fileio import read_json

CAMERAS = (
    *("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT"),
    *("CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT"),
)
#: Order of the detection labels in OpenMMLab's info files.
DETECTION_CLASSES = (
    *("car", "truck", "trailer", "bus", "construction_vehicle"),
    *("bicycle", "motorcycle", "pedestrian", "traffic_cone", "barrier"),
)
#: Beginning of a category's name and its detection class; other categories have label -1.
_CATEGORY_PREFIXES = (
    ("vehicle.car", "car"),
    ("vehicle.truck", "truck"),
    ("vehicle.trailer", "trailer"),
    ("vehicle.bus", "bus"),
    ("vehicle.construction", "construction_vehicle"),
    ("vehicle.bicycle", "bicycle"),
    ("vehicle.motorcycle", "motorcycle"),
    ("human.pedestrian.adult", "pedestrian"),
    ("human.pedestrian.child", "pedestrian"),
    ("human.pedestrian.construction_worker", "pedestrian"),
    ("human.pedestrian.police_officer", "pedestrian"),
    ("movable_object.trafficcone", "traffic_cone"),
    ("movable_object.barrier", "barrier"),
)
_TABLES = (
    *("calibrated_sensor", "category", "ego_pose", "instance", "sample"),
    *("sample_annotation", "sample_data", "scene", "sensor"),
)
_MINI_VAL = {"scene-0103", "scene-0916"}
#: Longest time between annotations that a velocity is taken from, seconds.
_LONGEST_GAP = 1.5


class NuScenesTableError(ValueError):
    """A table is missing, damaged or contradicts another; the message names the file."""


class NuScenesTables:
    """The tables that info files are made of.

    Args:
        root: Folder of nuScenes.
        version: Folder of the tables below it, such as ``v1.0-mini``.

    Raises:
        NuScenesTableError: If a table is missing or no JSON list of rows with tokens.
    """

    def __init__(self, root: str | Path, version: str) -> None:
        self.folder = Path(root) / version
        self.version = version
        if not self.folder.is_dir():
            raise NuScenesTableError(
                f"{self.folder}: expected the folder that holds '{version}', found none"
            )
        self._rows = {name: self._read(name) for name in _TABLES}
        self.channel = {
            key: self.get("sensor", row["sensor_token"])["channel"]
            for key, row in self._rows["calibrated_sensor"].items()
        }
        #: Key-frame shots of a sample by channel.
        self.shots: dict[str, dict[str, dict]] = {}
        for row in self._rows["sample_data"].values():
            if row["is_key_frame"]:
                channel = self.channel[row["calibrated_sensor_token"]]
                self.shots.setdefault(row["sample_token"], {})[channel] = row
        self.annotations: dict[str, list[dict]] = {}
        for row in self._rows["sample_annotation"].values():
            self.annotations.setdefault(row["sample_token"], []).append(row)

    def _read(self, name: str) -> dict[str, dict]:
        path = self.folder / f"{name}.json"
        try:
            rows = read_json(path)
            return {row["token"]: row for row in rows}
        except FileNotFoundError as error:
            raise NuScenesTableError(f"{path}: expected a table, found no such file") from error
        except (ValueError, KeyError, TypeError) as error:
            raise NuScenesTableError(f"{path}: expected rows with tokens, got {error}") from error

    def get(self, table: str, token: str) -> dict:
        """Row of a token."""
        try:
            return self._rows[table][token]
        except KeyError as error:
            raise NuScenesTableError(
                f"{self.folder / table}.json: expected a row '{token}' named elsewhere, got none"
            ) from error

    def scenes(self) -> list[dict]:
        """Rows of all scenes in the table's order."""
        return list(self._rows["scene"].values())

    def samples(self, scene: dict) -> list[dict]:
        """Key frames of a scene in order of time."""
        samples, token = [], scene["first_sample_token"]
        while token:
            samples.append(self.get("sample", token))
            token = samples[-1]["next"]
        return samples

    def pose(self, table: str, token: str) -> np.ndarray:
        """(4, 4) pose of a row of ``ego_pose`` (ego to global) or ``calibrated_sensor``."""
        row = self.get(table, token)
        return geometry.se3_from_rt(
            geometry.quat_to_rotmat(np.asarray(row["rotation"], dtype=np.float64)),
            np.asarray(row["translation"], dtype=np.float64),
        )

    def velocity(self, annotation: dict) -> np.ndarray:
        """(3,) metres per second in the global frame from the annotations beside; NaN alone."""
        ends = [
            self.get("sample_annotation", annotation[side]) if annotation[side] else annotation
            for side in ("prev", "next")
        ]
        if ends[0] is ends[1]:
            return np.full(3, np.nan)
        times = [self.get("sample", end["sample_token"])["timestamp"] * 1e-6 for end in ends]
        limit = _LONGEST_GAP * (2 if annotation["prev"] and annotation["next"] else 1)
        if times[1] - times[0] > limit:
            return np.full(3, np.nan)
        first, last = (np.asarray(end["translation"], dtype=np.float64) for end in ends)
        return (last - first) / (times[1] - times[0])

    def detection_label(self, annotation: dict) -> int:
        """Index in :data:`DETECTION_CLASSES`, -1 for other categories."""
        instance = self.get("instance", annotation["instance_token"])
        category = self.get("category", instance["category_token"])["name"]
        for prefix, name in _CATEGORY_PREFIXES:
            if category.startswith(prefix):
                return DETECTION_CLASSES.index(name)
        return -1


def scene_splits(
    tables: NuScenesTables, official: Callable[[], dict[str, list[str]]] | None = None
) -> dict[str, list[str]]:
    """Names of the scenes of each split, of those that the tables hold.

    ``splits.json`` beside the tables goes first; ``v1.0-mini`` and ``v1.0-test`` are known.

    Args:
        tables: The raw tables.
        official: Gives the lists ``train`` and ``val`` of all of nuScenes, for other versions
            (nuscenes-devkit has them). Defaults to None.

    Raises:
        NuScenesTableError: If a scene belongs to no split, or the lists are needed and not
            given.
    """
    names = [scene["name"] for scene in tables.scenes()]
    own = tables.folder / "splits.json"
    if own.is_file():
        splits = read_json(own)
    elif tables.version.endswith("-test"):
        splits = {"test": names}
    elif tables.version.endswith("-mini"):
        splits = {"train": [n for n in names if n not in _MINI_VAL], "val": sorted(_MINI_VAL)}
    elif official is None:
        raise NuScenesTableError(
            f"{tables.folder}: expected the scenes of train and val, found none: write "
            f"{own.name} ({{'train': [names], 'val': [names]}}) beside the tables"
        )
    else:
        lists = official()
        splits = {"train": lists["train"], "val": lists["val"]}
    found = {split: [n for n in names if n in set(members)] for split, members in splits.items()}
    lost = sorted(set(names) - {n for members in found.values() for n in members})
    if lost:
        raise NuScenesTableError(f"{tables.folder}: expected splits of scenes, got none of {lost}")
    return {split: members for split, members in found.items() if members}


def make_infos(tables: NuScenesTables, scene: dict, max_sweeps: int = 10) -> list[dict]:
    """Infos of a scene's key frames (``sample_idx`` is left to the caller).

    Args:
        tables: The raw tables.
        scene: Row of the scene.
        max_sweeps: Lidar sweeps before a key frame to list. Defaults to 10.

    Returns:
        Plain dicts: matrices are lists, times seconds.

    Raises:
        NuScenesTableError: If a key frame lacks the lidar.
    """
    return [_info(tables, scene, sample, max_sweeps) for sample in tables.samples(scene)]


def _info(tables: NuScenesTables, scene: dict, sample: dict, max_sweeps: int) -> dict:
    shots = tables.shots.get(sample["token"], {})
    if "LIDAR_TOP" not in shots:
        raise NuScenesTableError(
            f"{tables.folder / 'sample_data'}.json: expected LIDAR_TOP of {sample['token']}, got "
            "none"
        )
    lidar = shots["LIDAR_TOP"]
    lidar_to_ego = tables.pose("calibrated_sensor", lidar["calibrated_sensor_token"])
    ego_to_global = tables.pose("ego_pose", lidar["ego_pose_token"])
    lidar_to_global = ego_to_global @ lidar_to_ego
    images = {}
    for channel in CAMERAS:
        if channel in shots:
            images[channel] = _image(tables, shots[channel], lidar_to_global)
    return {
        "token": sample["token"],
        "timestamp": sample["timestamp"] * 1e-6,
        "scene_token": scene["token"],
        "scene_idx": scene["name"],
        "ego2global": ego_to_global.tolist(),
        "images": images,
        "lidar_points": {
            "num_pts_feats": 5,
            "lidar_path": Path(lidar["filename"]).name,
            "lidar2ego": lidar_to_ego.tolist(),
        },
        "lidar_sweeps": _sweeps(tables, lidar, lidar_to_global, max_sweeps),
        "instances": _instances(tables, sample, geometry.se3_inverse(lidar_to_global)),
        "cam_instances": {},
    }


def _image(tables: NuScenesTables, shot: dict, lidar_to_global: np.ndarray) -> dict:
    sensor = tables.get("calibrated_sensor", shot["calibrated_sensor_token"])
    cam_to_ego = tables.pose("calibrated_sensor", shot["calibrated_sensor_token"])
    # The car moves between the shots: each has an ego pose of its own.
    cam_to_global = tables.pose("ego_pose", shot["ego_pose_token"]) @ cam_to_ego
    return {
        "img_path": Path(shot["filename"]).name,
        "cam2img": sensor["camera_intrinsic"],
        "cam2ego": cam_to_ego.tolist(),
        "lidar2cam": (geometry.se3_inverse(cam_to_global) @ lidar_to_global).tolist(),
        "sample_data_token": shot["token"],
        "timestamp": shot["timestamp"] * 1e-6,
        "height": shot["height"],
        "width": shot["width"],
    }


def _sweeps(
    tables: NuScenesTables, lidar: dict, lidar_to_global: np.ndarray, max_sweeps: int
) -> list[dict]:
    sweeps, shot = [], lidar
    while len(sweeps) < max_sweeps and shot["prev"]:
        shot = tables.get("sample_data", shot["prev"])
        sensor_to_ego = tables.pose("calibrated_sensor", shot["calibrated_sensor_token"])
        ego_to_global = tables.pose("ego_pose", shot["ego_pose_token"])
        to_sweep = geometry.se3_inverse(ego_to_global @ sensor_to_ego) @ lidar_to_global
        sweeps.append(
            {
                "timestamp": shot["timestamp"] * 1e-6,
                "sample_data_token": shot["token"],
                "ego2global": ego_to_global.tolist(),
                "lidar_points": {
                    "lidar_path": shot["filename"],
                    "lidar2ego": sensor_to_ego.tolist(),
                    "lidar2sensor": to_sweep.tolist(),
                },
            }
        )
    return sweeps


def _instances(tables: NuScenesTables, sample: dict, global_to_lidar: np.ndarray) -> list[dict]:
    instances = []
    for annotation in tables.annotations.get(sample["token"], ()):
        center = geometry.transform_points(
            global_to_lidar, np.asarray(annotation["translation"], dtype=np.float64)[None]
        )[0]
        turn = global_to_lidar[:3, :3] @ geometry.quat_to_rotmat(
            np.asarray(annotation["rotation"], dtype=np.float64)
        )
        width, length, height = annotation["size"]
        velocity = global_to_lidar[:3, :3] @ tables.velocity(annotation)
        label = tables.detection_label(annotation)
        yaw = float(np.arctan2(turn[1, 0], turn[0, 0]))
        instances.append(
            {
                "bbox_label": label,
                "bbox_label_3d": label,
                "bbox_3d": [*map(float, center), length, width, height, yaw],
                "bbox_3d_isvalid": annotation["num_lidar_pts"] > 0,
                "velocity": [float(v) for v in velocity[:2]],
                "num_lidar_pts": annotation["num_lidar_pts"],
                "num_radar_pts": annotation["num_radar_pts"],
            }
        )
    return instances
