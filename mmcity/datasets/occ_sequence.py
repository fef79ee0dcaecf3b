"""Clips of semantic occupancy: one dataset class per on-disk layout."""

import copy
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset
from rich.progress import track

from mmcity.datasets.io.info_pickle import InfoFileError, load_info_pickle
from mmcity.datasets.io.occupancy_files import (
    read_carlasc_frame,
    read_carlasc_params,
    read_occ3d_nuscenes_frame,
    read_occ3d_waymo_frame,
    read_planar_poses,
)
from mmcity.registry import DATASETS, TRANSFORMS
from mmcity.structures.palettes import UNIFIED_PALETTE
from mmcity.utils.checks import count_pairs
from mmcity.utils.failures import ItemFailures
from mmcity.utils.fileio import read_arrays, read_json
from mmcity.utils.picture_names import natural_order

from .occupancy_labels import (
    CARLASC_TO_UNIFIED,
    OCC3D_NUSCENES_TO_UNIFIED,
    OCC3D_WAYMO_TO_UNIFIED,
    SEMANTICKITTI_TO_UNIFIED,
    UNIFIED_CLASSES,
    remap_labels,
)


class OccSequenceDataset(BaseDataset):
    """Windows of consecutive frames of occupancy scenes.

    A subclass lists its scenes (:meth:`load_scenes`) and reads one frame
    (:meth:`read_frame`). An item holds ``voxels`` uint8 ``(T, X, Y, Z)`` in unified classes,
    ``invalid`` bool of the same shape, ``planar_poses`` float64 ``(T, 3)`` (x, y, yaw) or None,
    ``scene``, ``frames`` (names of the frames) and ``window`` (index of the first frame).

    Args:
        data_root: Root folder of the data set.
        split: Sub-folder or list name, by layout.
        sequence_length: Frames T of a clip. Defaults to 16.
        skip: Frames left out between two of a clip. Defaults to 0.
        stride: Frames between the starts of two windows. Defaults to 1.
        scenes: Names of the scenes to use. Defaults to all of the split.
        crop: Sizes ``(X, Y, Z)`` of a crop about the centre of x and y, from the floor of z.
            Defaults to None (the whole grid).
        random_crop: Put the crop anywhere in x and y instead, one place for all frames of a
            clip: many more scenes to train on, though not all about the car.
            Defaults to False.
        class_balance: Share of the random crops that hold a voxel of a class drawn from those
            of the clip with equal chances, so that rare classes are seen. Defaults to 0.0.
        data_length: Number of clips to keep, 0 for all. Defaults to 0.
        shuffle_dataset: Shuffle the clips (by ``seed``) before they are cut to ``data_length``.
        seed: Of the shuffle. Defaults to 0.
        raw_labels: Keep the data set's own labels. Defaults to False.
        kwargs: As in mmengine's ``BaseDataset``.
    """

    METAINFO = {"classes": UNIFIED_CLASSES, "palette": UNIFIED_PALETTE, "free_class": 0}
    #: Unified class of every raw label.
    LABEL_TABLE: tuple[int, ...] = ()

    def __init__(
        self,
        data_root: str,
        split: str,
        sequence_length: int = 16,
        skip: int = 0,
        stride: int = 1,
        scenes: Sequence[str] | None = None,
        crop: Sequence[int] | None = None,
        random_crop: bool = False,
        class_balance: float = 0.0,
        data_length: int = 0,
        shuffle_dataset: bool = False,
        seed: int = 0,
        raw_labels: bool = False,
        pipeline: Sequence[dict | Callable] = (),
        **kwargs,
    ) -> None:
        if sequence_length < 1 or skip < 0 or stride < 1:
            raise ValueError(
                "sequence_length, stride, skip: expected at least 1, 1 and 0, got "
                f"{sequence_length}, {stride} and {skip}"
            )
        self.split = split
        self.sequence_length = sequence_length
        self.skip = skip
        self.stride = stride
        self.scenes = None if scenes is None else set(scenes)
        self.crop = None if crop is None else tuple(crop)
        if random_crop and crop is None:
            raise ValueError("random_crop: expected the size of the crop too, got none")
        self.random_crop = random_crop
        if class_balance and not random_crop:
            raise ValueError("class_balance: expected random_crop to place, got none")
        self.class_balance = class_balance
        self.data_length = data_length
        self.shuffle_dataset = shuffle_dataset
        self.seed = seed
        self.raw_labels = raw_labels
        # Built here, so that type names resolve whatever the default scope is.
        built = [TRANSFORMS.build(step) if isinstance(step, dict) else step for step in pipeline]
        super().__init__(ann_file="", data_root=data_root, pipeline=built, **kwargs)

    def load_scenes(self) -> list[dict]:
        """Scenes of the split: dicts with ``name``, ``frames`` (paths, in order), ``poses``."""
        raise NotImplementedError

    def read_frame(self, path: str, scene: dict) -> tuple[np.ndarray, np.ndarray]:
        """Raw labels ``(X, Y, Z)`` and the mask of invalid voxels of one frame."""
        raise NotImplementedError

    def count_classes(self) -> np.ndarray:
        """Voxels of each class, ``(K,)`` int64, in every frame of the split once.

        These are the ``class_frequencies`` of a :class:`HexPlaneVAE`; unseen voxels count, whatever
        clips, crops and ``data_length`` are.

        Raises:
            UserError: If frames cannot be read, once the others are counted.
        """
        scenes = [s for s in self.load_scenes() if self.scenes is None or s["name"] in self.scenes]
        counts = np.zeros(len(self.METAINFO["classes"]), np.int64)
        failures = ItemFailures("frames")
        places = [(scene, frame) for scene in scenes for frame in scene["frames"]]
        for scene, frame in track(places, "Counting voxels"):
            with failures.item(frame):
                labels, _ = self.read_frame(frame, scene)
                labels = remap_labels(labels, self.LABEL_TABLE, frame)
                counts += np.bincount(labels.ravel(), minlength=len(counts))
        failures.check()
        return counts

    def load_data_list(self) -> list[dict]:
        """One entry per window of every scene."""
        scenes = self.load_scenes()
        if self.scenes is not None:
            missing = self.scenes - {scene["name"] for scene in scenes}
            if missing:
                raise ValueError(
                    f"{self.data_root}: expected scenes of split '{self.split}', "
                    f"{sorted(scene['name'] for scene in scenes)}, got {sorted(missing)}"
                )
            scenes = [scene for scene in scenes if scene["name"] in self.scenes]
        span = self.sequence_length * (self.skip + 1) - self.skip
        windows = []
        for scene in scenes:
            for start in range(0, len(scene["frames"]) - span + 1, self.stride):
                picked = slice(start, start + span, self.skip + 1)
                poses = scene.get("poses")
                window = {
                    key: scene[key] for key in scene if key not in ("frames", "poses", "name")
                }
                window.update(
                    scene=scene["name"],
                    window=start,
                    frames=list(scene["frames"][picked]),
                    planar_poses=None if poses is None else poses[picked],
                )
                windows.append(window)
        if not windows:
            raise ValueError(
                f"{self.data_root}: expected clips of {self.sequence_length} frames (skip "
                f"{self.skip}) in split '{self.split}', got {len(scenes)} scenes of "
                f"{sorted(len(scene['frames']) for scene in scenes)} frames"
            )
        if self.shuffle_dataset:
            random.Random(self.seed).shuffle(windows)
        return windows[: self.data_length] if self.data_length > 0 else windows

    def get_data_info_without_voxels(self, idx: int) -> dict:
        """Names, poses and index of a window, without reading its frames."""
        return copy.deepcopy(super().get_data_info(idx))

    def get_data_info(self, idx: int) -> dict:
        """Read the frames of a window; augmentation belongs to the pipeline."""
        info = self.get_data_info_without_voxels(idx)
        labels, invalid = [], []
        for path in info["frames"]:
            frame, mask = self.read_frame(path, info)
            if self.crop is not None and any(c > n for c, n in zip(self.crop, frame.shape)):
                raise ValueError(f"{path}: expected crop within {frame.shape}, got {self.crop}")
            if not self.raw_labels:
                frame = remap_labels(frame, self.LABEL_TABLE, str(path))
            labels.append(frame)
            invalid.append(mask)
        voxels = np.stack(labels).astype(np.uint8)
        window = (slice(None), *self._crop_window(voxels))
        info["voxels"] = np.ascontiguousarray(voxels[window])
        info["invalid"] = np.stack(invalid)[window].copy()
        return info

    def _crop_window(self, voxels: np.ndarray) -> tuple[slice, ...]:
        """Window that cuts a clip ``(T, X, Y, Z)`` along x, y and z."""
        if self.crop is None:
            return ()
        spare = [n - c for n, c in zip(voxels.shape[1:3], self.crop)]
        corner = [n // 2 for n in spare]
        # numpy's global generator is the one that mmengine seeds in every worker.
        if self.random_crop:
            corner = [int(p * (n + 1)) for p, n in zip(np.random.rand(2), spare)]  # noqa: NPY002
        if self.class_balance and np.random.rand() < self.class_balance:  # noqa: NPY002
            classes = np.setdiff1d(np.unique(voxels), self.METAINFO["free_class"])
            if len(classes):
                label = classes[int(np.random.rand() * len(classes))]  # noqa: NPY002
                places = np.argwhere((voxels == label).any(axis=(0, 3)))
                place = places[int(np.random.rand() * len(places))]  # noqa: NPY002
                offset = np.random.rand(2) * self.crop[:2]  # noqa: NPY002
                corner = np.clip(place - offset.astype(int), 0, spare).tolist()
        return tuple(slice(a, a + n) for a, n in zip((*corner, 0), self.crop))


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: expected a folder, found none: check data_root")
    return sorted(path for path in root.iterdir() if path.is_dir())


def _with_poses(file: Path, frames: list[str], poses: np.ndarray | None) -> dict:
    """Frames and poses of a scene; frames without a pose cannot be conditioned on."""
    if poses is None:
        return {"frames": frames, "poses": None}
    count = count_pairs(file, trim=True, frames=frames, poses=poses)
    return {"frames": frames[:count], "poses": poses[:count]}


@DATASETS.register_module()
class CarlaSCOccSequence(OccSequenceDataset):
    """CarlaSC (Cartesian): ``<split>/<town>/cartesian/evaluation/NNNNNN.{label,bin}``.

    ``data_root`` is the folder that holds ``Train``, ``Val`` and ``Test``. See
    :class:`OccSequenceDataset` for the arguments. Invalid voxels are those never observed.
    """

    LABEL_TABLE = CARLASC_TO_UNIFIED

    def load_scenes(self) -> list[dict]:
        """Towns of the split; see :meth:`OccSequenceDataset.load_scenes`."""
        scenes = []
        for town in _folders(Path(self.data_root) / self.split):
            folder = town / "cartesian" / "evaluation"
            if not folder.is_dir():
                folder = town / "evaluation"
            frames = natural_order(folder.glob("*.label"))
            poses_file = folder.parent / "poses.txt"
            poses = read_planar_poses(poses_file) if poses_file.is_file() else None
            scenes.append(
                {
                    "name": town.name,
                    **_with_poses(poses_file, [str(path) for path in frames], poses),
                    "grid": tuple(read_carlasc_params(folder)["grid_size"]),
                }
            )
        return scenes

    def read_frame(self, path: str, scene: dict) -> tuple[np.ndarray, np.ndarray]:
        """One frame; see :meth:`OccSequenceDataset.read_frame`."""
        return read_carlasc_frame(path, scene["grid"])


@DATASETS.register_module()
class Occ3DWaymoOccSequence(OccSequenceDataset):
    """Occ3D-Waymo: ``<split>/<scene>/<frame>_04.npz``; invalid = not seen by the lidar.

    ``poses.txt`` beside the frames (CarlaSC's format) is read where it exists, since the
    released files carry no poses.
    """

    LABEL_TABLE = OCC3D_WAYMO_TO_UNIFIED

    def load_scenes(self) -> list[dict]:
        """Drives of the split; see :meth:`OccSequenceDataset.load_scenes`."""
        scenes = []
        for folder in _folders(Path(self.data_root) / self.split):
            file = folder / "poses.txt"
            frames = [str(path) for path in natural_order(folder.glob("*_04.npz"))]
            poses = read_planar_poses(file) if file.is_file() else None
            scenes.append({"name": folder.name, **_with_poses(file, frames, poses)})
        return scenes

    def read_frame(self, path: str, scene: dict) -> tuple[np.ndarray, np.ndarray]:
        """One frame; see :meth:`OccSequenceDataset.read_frame`."""
        labels, lidar, _ = read_occ3d_waymo_frame(path)
        return labels, ~lidar


def _scenes_of_infos(path: Path) -> tuple[dict[str, list[str]], dict[str, np.ndarray]]:
    """Tokens of each scene in time order, and their planar poses ``(N, 3)`` (x, y, yaw)."""
    rows: dict[str, list[tuple[float, str, np.ndarray]]] = {}
    for number, info in enumerate(load_info_pickle(path)["data_list"]):
        keys = ("scene_idx", "token", "timestamp", "ego2global")
        lacking = [key for key in keys if info.get(key) is None]
        if lacking:
            raise InfoFileError(
                f"{path}: expected {lacking} of entry {number}, got none: run `mmcity data "
                "nuscenes`, or `mmcity data update nuscenes` for files made elsewhere"
            )
        pose = np.asarray(info["ego2global"], dtype=np.float64)
        planar = np.array([pose[0, 3], pose[1, 3], np.arctan2(pose[1, 0], pose[0, 0])])
        rows.setdefault(info["scene_idx"], []).append((info["timestamp"], info["token"], planar))
    ordered = {name: sorted(scene, key=lambda row: row[:2]) for name, scene in rows.items()}
    tokens = {name: [row[1] for row in scene] for name, scene in ordered.items()}
    return tokens, {name: np.stack([row[2] for row in scene]) for name, scene in ordered.items()}


@DATASETS.register_module()
class Occ3DNuScenesOccSequence(OccSequenceDataset):
    """Occ3D-nuScenes: ``gts/<scene>/<token>/labels.npz``; invalid = not seen by the lidar.

    Args:
        order_file: What comes after what, as tokens are random: an info file (``.pkl``, of
            ``mmcity data nuscenes``), which brings poses too, or JSON with the key-frame tokens
            of each scene in time order, ``{scene: [token, ...]}``.
        kwargs: See :class:`OccSequenceDataset`; ``split`` is the folder below ``data_root``.
    """

    LABEL_TABLE = OCC3D_NUSCENES_TO_UNIFIED

    def __init__(self, data_root: str, order_file: str, split: str = "gts", **kwargs) -> None:
        self.order_file = order_file
        super().__init__(data_root=data_root, split=split, **kwargs)

    def load_scenes(self) -> list[dict]:
        """Scenes of the order file; see :meth:`OccSequenceDataset.load_scenes`."""
        root = Path(self.data_root)
        path = Path(self.order_file)
        path = path if path.is_absolute() else root / path
        if path.suffix == ".pkl":
            order, poses = _scenes_of_infos(path)
        else:
            order, poses = read_json(path), {}
        scenes = []
        for name, tokens in sorted(order.items()):
            frames = [root / self.split / name / token / "labels.npz" for token in tokens]
            missing = [str(frame) for frame in frames if not frame.is_file()]
            if missing:
                raise FileNotFoundError(f"{path}: expected files that exist, got {missing[0]}")
            files = [str(frame) for frame in frames]
            scenes.append({"name": name, "frames": files, "poses": poses.get(name)})
        return scenes

    def read_frame(self, path: str, scene: dict) -> tuple[np.ndarray, np.ndarray]:
        """One key frame; see :meth:`OccSequenceDataset.read_frame`."""
        labels, lidar, _ = read_occ3d_nuscenes_frame(path)
        return labels, ~lidar


@DATASETS.register_module()
class SemanticKITTIOccSequence(OccSequenceDataset):
    """4D occupancy built from SemanticKITTI: ``sequences/NN/occ4d.npz``.

    Args:
        grid_key: Array to use: ``occ_128x128x8`` or ``occ_200x200x16``.
        kwargs: See :class:`OccSequenceDataset`; ``split`` names the sub-folder, and
            ``scenes`` the sequences. Label 0 stands for empty and unknown alike, so every
            voxel is valid.
    """

    LABEL_TABLE = SEMANTICKITTI_TO_UNIFIED

    def __init__(
        self, data_root: str, split: str = "sequences", grid_key: str = "occ_128x128x8", **kwargs
    ) -> None:
        self.grid_key = grid_key
        self._clips: dict[str, np.ndarray] = {}
        super().__init__(data_root=data_root, split=split, **kwargs)

    def load_scenes(self) -> list[dict]:
        """Sequences of the split; see :meth:`OccSequenceDataset.load_scenes`."""
        scenes = []
        for folder in _folders(Path(self.data_root) / self.split):
            path = folder / "occ4d.npz"
            if not path.is_file():
                continue
            keys = {self.grid_key, "lidar2world", "times"}
            data = read_arrays(path, keys)
            lacking = keys - set(data)
            if lacking:
                raise ValueError(
                    f"{path}: expected arrays {sorted(lacking)} too, got {sorted(data)}"
                )
            pose = data["lidar2world"]
            count = count_pairs(path, times=data["times"], frames=data[self.grid_key])
            yaw = np.arctan2(pose[:, 1, 0], pose[:, 0, 0])
            poses = np.stack([pose[:, 0, 3], pose[:, 1, 3], yaw], axis=1)
            frames = [f"{path}#{i}" for i in range(count)]
            scenes.append({"name": folder.name, **_with_poses(path, frames, poses)})
        return scenes

    def read_frame(self, path: str, scene: dict) -> tuple[np.ndarray, np.ndarray]:
        """One frame of a clip file; see :meth:`OccSequenceDataset.read_frame`."""
        file, index = path.rsplit("#", 1)
        if file not in self._clips:
            self._clips[file] = read_arrays(file, (self.grid_key,))[self.grid_key]
        frame = self._clips[file][int(index)]
        return frame, np.zeros(frame.shape, dtype=bool)
