"""Drives: nuScenes with Occ3D labels and stored maps, CarlaSC, Occ3D-Waymo."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmcity.miniature.room import Room, RoomVideo
from mmcity.toytown.sensors.rigs import FULL_SIZE, LIDAR_TO_EGO, nuscenes_rig
from mmcity.toytown.writers.common import save_image
from mmcity.toytown.writers.nuscenes_tables import SceneRecord, fill_tables, token, write_tables
from mmcity.utils.fileio import atomic_path, write_json, write_npy, write_npz, write_text

#: Scenes of nuScenes (one of the training, one of the validation split) and their key frames.
_SCENES = {"scene-0061": 4, "scene-0103": 2}
_LOG = "n015-2018-07-24-11-{:02d}-45+0800"
_VERSION = "v1.0-trainval"
#: Microseconds between key frames, metres driven between them.
_PERIOD, _STEP = 500_000, 3.0
#: Frames of a drive of occupancy: two windows of 16 frames, one after the other.
_FRAMES = 32
_STREET = Room((-60, -12, 0), (60, 12, 9))

#: Ids of what the street is made of, in each data set.
_NUSCENES = dict(free=17, road=11, sidewalk=13, building=15, vehicle=4, tree=16, person=7)
_CARLASC = dict(free=0, road=7, sidewalk=8, building=1, vehicle=10, tree=9, person=4)
_WAYMO = dict(free=23, road=13, sidewalk=14, building=10, vehicle=1, tree=11, person=2)


def _street_labels(shape: tuple[int, int, int], ids: dict[str, int], step: int) -> np.ndarray:
    """uint8 ``(X, Y, Z)`` of a street along x at one step of a drive."""
    x, y, z = np.ogrid[: shape[0], : shape[1], : shape[2]]
    y = abs(y - shape[1] // 2)
    x = x + step
    labels = np.full(shape, ids["free"], np.uint8)
    ground = z == 1
    labels[np.broadcast_to(ground & (y < 12), shape)] = ids["road"]
    labels[np.broadcast_to(ground & (y >= 12), shape)] = ids["sidewalk"]
    houses = (y > 24) & (z > 0) & (z < shape[2] - 2) & (x % 40 > 6)
    labels[np.broadcast_to(houses, shape)] = ids["building"]
    trees = (abs(y - 18) < 2) & (z > 1) & (z < 6) & (x % 20 < 3)
    labels[np.broadcast_to(trees, shape)] = ids["tree"]
    labels[np.broadcast_to((y > 4) & (y < 9) & (z > 1) & (z < 5) & (x % 50 < 11), shape)] = ids[
        "vehicle"
    ]
    labels[np.broadcast_to((y == 14) & (z > 1) & (z < 6) & (x % 30 == 0), shape)] = ids["person"]
    return labels


def _poses(count: int) -> np.ndarray:
    """Ego poses ``(count, 4, 4)`` of a drive along x with a slight turn."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    angles = 0.02 * np.arange(count)
    poses[:, 0, 0] = poses[:, 1, 1] = np.cos(angles)
    poses[:, 1, 0] = np.sin(angles)
    poses[:, 0, 1] = -poses[:, 1, 0]
    poses[:, 0, 3] = np.arange(count) * _STEP
    poses[:, 2, 3] = 0.5
    return poses


def _records() -> list[SceneRecord]:
    car = dict(
        name="car", instance=1, size=[4.5, 1.9, 1.6], yaw=0.1, speed=0.0, is_ridden=False,
        is_agent=True, share_seen=0.9, num_lidar_pts=9,
    )  # fmt: skip
    records = []
    for number, (name, count) in enumerate(_SCENES.items()):
        start = 1_532_402_927_612_460 + number * 10**9
        frames = [
            dict(
                timestamp=start + frame * _PERIOD,
                ego_pose=pose,
                boxes=[dict(car, center=[15.0, 3.0, 0.8])],
                sweeps=[],
            )
            for frame, pose in enumerate(_poses(count))
        ]
        records.append(SceneRecord(name, _LOG.format(20 + number), "a street", frames))
    return records


def _shots() -> Iterator[tuple[str, str, RoomVideo]]:
    """Channel, name without suffix and view of every picture."""
    for record in _records():
        for frame in record.frames:
            for camera in nuscenes_rig(FULL_SIZE):
                name = f"{record.log}__{camera.name}__{frame['timestamp']}"
                pose = (frame["ego_pose"] @ camera.cam_to_ego)[None]
                view = RoomVideo(_STREET, camera.K, FULL_SIZE, pose, coarse=10)
                yield camera.name, name, view


def _write_scan(path: Path, lidar_to_world: np.ndarray) -> None:
    """32 rings of float32 x, y, z, intensity, ring."""
    turn, rise = np.meshgrid(np.radians(np.arange(0, 360, 4)), np.radians(np.linspace(-30, 10, 32)))
    rays = np.stack([np.sin(turn) * np.cos(rise), np.cos(turn) * np.cos(rise), np.sin(rise)], -1)
    rays = rays.reshape(-1, 3)
    depth = _STREET.distances(lidar_to_world[:3, 3], rays @ lidar_to_world[:3, :3].T)
    rings = np.repeat(np.arange(32), turn.shape[1])
    rows = np.column_stack([rays * depth[:, None], np.full(len(rays), 20.0), rings])
    with atomic_path(path) as temporary:
        temporary.write_bytes(rows.astype("<f4").tobytes())


def write_nuscenes(out: Path) -> None:
    """nuScenes (``v1.0-trainval``, two scenes) with the labels of Occ3D in ``gts``."""
    records = _records()
    for channel, name, view in _shots():
        view.picture(out / "samples" / channel / f"{name}.jpg", 0)
    for record in records:
        for index, frame in enumerate(record.frames):
            name = f"{record.log}__LIDAR_TOP__{frame['timestamp']}.pcd.bin"
            _write_scan(out / "samples" / "LIDAR_TOP" / name, frame["ego_pose"] @ LIDAR_TO_EGO)
            _write_labels(out / "gts" / record.name / record.sample(index), 8 * index)
    tables = fill_tables(records, nuscenes_rig(FULL_SIZE), "singapore-onenorth")
    mask = f"maps/{token('map')}.png"
    save_image(out / mask, np.full((64, 64), 255, np.uint8))
    logs = [row["token"] for row in tables["log"]]
    row = dict(token=token("map"), category="semantic_prior", filename=mask, log_tokens=logs)
    write_tables(out / _VERSION, {**tables, "map": [row]})


def _write_labels(folder: Path, step: int) -> None:
    """Labels of Occ3D-nuScenes for one key frame."""
    labels = _street_labels((200, 200, 16), _NUSCENES, step)
    lidar, camera = (np.zeros(labels.shape, np.uint8) for _ in range(2))
    lidar[:, :, :10] = 1
    camera[20:180, 20:180, :12] = 1
    path = folder / "labels.npz"
    write_npz(path, compressed=True, semantics=labels, mask_lidar=lidar, mask_camera=camera)


def write_nuscenes_maps(out: Path) -> None:
    """Stored maps of the pictures of nuScenes, a folder per kind, a file per picture."""
    rng = np.random.default_rng(0)
    for _, name, view in _shots():
        write_npy(out / "nuscenes_metric3d" / f"{name}.npy", view.depth(0))
        features = rng.normal(size=(512, 27, 48)).astype(np.float32)
        write_npy(out / "nuscenes_featup" / f"{name}.npy", features)
        height = view.points_seen(0)[..., 2]
        labels = np.select([height < 0.01, height > _STREET.high[2] - 0.01], [11, 17], 15)
        write_npy(out / "nuscenes_grounded_sam2" / f"{name}.npy", labels.astype(np.float32))


def _pose_rows(count: int) -> str:
    """Rows of the 3x4 matrices that take a frame to the first one."""
    poses = _poses(count)
    rows = (np.linalg.inv(poses[0]) @ poses)[:, :3].reshape(count, 12)
    return "".join(" ".join(f"{value:.9g}" for value in row) + "\n" for row in rows)


def write_carlasc(out: Path) -> None:
    """CarlaSC (Cartesian): one town in each of ``Train``, ``Val`` and ``Test``."""
    grid = (128, 128, 8)
    for split, town in (
        ("Train", "Town01_Heavy"),
        ("Val", "Town10_Light"),
        ("Test", "Town10_Medium"),
    ):
        count = _FRAMES if split == "Train" else _FRAMES // 2
        folder = out / split / town / "cartesian"
        for frame in range(count):
            labels = _street_labels(grid, _CARLASC, 2 * frame)
            counts = np.zeros(grid)
            counts[:, 16:112] = 3
            for suffix, values in (("label", labels.astype("<u4")), ("bin", counts.astype("<f4"))):
                with atomic_path(folder / "evaluation" / f"{frame:06d}.{suffix}") as temporary:
                    temporary.write_bytes(values.tobytes())
        params = dict(
            grid_size=grid, min_bound=[-25.6, -25.6, -2.0], max_bound=[25.6, 25.6, 1.0],
            num_channels=grid[2],
        )  # fmt: skip
        write_json(folder / "evaluation" / "params.json", params)
        write_text(folder / "poses.txt", _pose_rows(count))
        write_text(folder / "times.txt", "".join(f"{frame / 10:.3f}\n" for frame in range(count)))


def write_occ3d_waymo(out: Path) -> None:
    """Occ3D-Waymo: a drive in each of ``training``, ``validation`` and ``testing``."""
    for split in ("training", "validation", "testing"):
        for frame in range(_FRAMES // 2 + 1 if split == "training" else _FRAMES // 2):
            labels = _street_labels((200, 200, 16), _WAYMO, 2 * frame)
            seen = np.zeros(labels.shape, np.uint8)
            seen[:, :, :10] = 1
            write_npz(
                out / split / "000" / f"{frame:03d}_04.npz",
                compressed=True,
                voxel_label=labels,
                origin_voxel_state=seen,
                final_voxel_state=seen,
                infov=np.ones_like(seen),
            )


def write_occ3d_nuscenes(out: Path) -> None:
    """Occ3D-nuScenes for clips: ``gts`` and info files of 16 key frames, one scene a split."""
    for split, scene in (("train", "scene-0061"), ("val", "scene-0103")):
        tokens = [token(scene, frame) for frame in range(_FRAMES // 2)]
        for frame, name in enumerate(tokens):
            _write_labels(out / "gts" / scene / name, 8 * frame)
        poses = _poses(len(tokens))
        infos = [
            {"token": name, "scene_idx": scene, "timestamp": frame / 2, "ego2global": poses[frame]}
            for frame, name in enumerate(tokens)
        ]
        with atomic_path(out / f"nuscenes_infos_{split}.pkl") as temporary:
            content = {"metainfo": {"version": "v1.0-trainval"}, "data_list": infos}
            temporary.write_bytes(pickle.dumps(content, protocol=4))
