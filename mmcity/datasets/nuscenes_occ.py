"""nuScenes key frames with six cameras and Occ3D occupancy."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset

from mmcity.registry import DATASETS, TRANSFORMS
from mmcity.structures.palettes import OCC3D_NUSCENES_PALETTE
from mmcity.utils.picture_names import picture_name

from .io.info_pickle import InfoFileError, load_info_pickle
from .occupancy_labels import OCC3D_NUSCENES_CLASSES

_INFO_KEYS = ("token", "images")
#: RayIoU looks from at most so many positions, within so many metres in x and y.
_RAY_ORIGINS, _RAY_REACH = 8, 39.0


@DATASETS.register_module()
class NuScenesOccDataset(BaseDataset):
    """Key frames of an info file (format v2) and where their occupancy lies.

    An item holds, camera by camera in the order of the info's ``images``: ``images`` (dicts
    with full ``img_path``, ``cam2img`` 3x3, ``cam2ego``, ``lidar2cam`` 4x4), ``ego2global``,
    ``lidar_points``, ``token``, ``scene_token``, ``scene_idx``, ``sample_idx`` and
    ``occ_path`` = ``<data_root>/gts/<scene_idx>/<token>``.

    Args:
        ann_file: Info pickle below ``data_root``; read without running code.
        data_root: Root of nuScenes.
        data_prefix: Folder of each camera's images below ``data_root``. Defaults to
            ``samples/<CAMERA>``.
        load_adj_frame: Also give the key frames before and after, within the scene.
            Defaults to False.
        interval: Key frames between them, or a range to draw from. Defaults to 1.
        scenes: Names of the scenes to use. Defaults to all.
        ray_origins: Also give the sensor positions from which RayIoU looks: up to eight lidar
            positions of the scene's key frames in the frame of this one, ``ray_origins``
            ``(O, 3)`` float32. Defaults to False.
        metainfo, pipeline, kwargs: As in mmengine's ``BaseDataset``.
    """

    METAINFO = {
        "classes": OCC3D_NUSCENES_CLASSES,
        "label2cat": dict(enumerate(OCC3D_NUSCENES_CLASSES)),
        "palette": OCC3D_NUSCENES_PALETTE,
        "free_class": 17,
    }

    def __init__(
        self,
        ann_file: str,
        data_root: str = "",
        data_prefix: dict | None = None,
        load_adj_frame: bool = False,
        interval: int | tuple[int, int] = 1,
        scenes: Sequence[str] | None = None,
        ray_origins: bool = False,
        pipeline: Sequence[dict | Callable] = (),
        **kwargs,
    ) -> None:
        self.load_adj_frame = load_adj_frame
        self.interval = interval
        self.ray_origins = ray_origins
        self._lidar_positions: dict[str, np.ndarray] = {}
        self.scenes = None if scenes is None else set(scenes)
        # Folders of cameras may be given for cameras that an info file lacks, so that the
        # base class must not join them.
        self.camera_prefix = dict(data_prefix or {})
        built = [TRANSFORMS.build(step) if isinstance(step, dict) else step for step in pipeline]
        super().__init__(ann_file=ann_file, data_root=data_root, pipeline=built, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read and check the info file."""
        content = load_info_pickle(self.ann_file)
        self._metainfo.setdefault("version", content.get("metainfo", {}).get("version"))
        infos = []
        for number, info in enumerate(content["data_list"]):
            missing = [key for key in _INFO_KEYS if key not in info]
            if missing:
                raise InfoFileError(
                    f"{self.ann_file}: expected {missing} of entry {number}, got none"
                )
            if self.scenes is not None and info.get("scene_idx") not in self.scenes:
                continue
            infos.append(self.parse_data_info(info, number))
        if not infos:
            raise InfoFileError(f"{self.ann_file}: expected key frames of these scenes, got none")
        return infos

    def parse_data_info(self, raw_data_info: dict, number: int = 0) -> dict:
        """Full paths, and the folder of the occupancy target."""
        info = dict(raw_data_info)
        info.setdefault("sample_idx", number)
        root = Path(self.data_root or "")
        images = {}
        for camera, image in info["images"].items():
            lacking = [key for key in ("img_path", "cam2img", "cam2ego") if key not in image]
            if lacking:
                raise InfoFileError(
                    f"{self.ann_file}: expected {lacking} in entry {number}, {camera}, got none"
                )
            prefix = self.camera_prefix.get(camera, f"samples/{camera}")
            images[camera] = {
                **image,
                "img_path": str(root / prefix / picture_name(image["img_path"])),
            }
        info["images"] = images
        if "scene_idx" in info:
            info["occ_path"] = str(root / "gts" / info["scene_idx"] / info["token"])
        return info

    def get_data_info(self, idx: int) -> dict:
        """Info of one key frame, with its neighbours if asked for."""
        info = super().get_data_info(idx)
        if "occ_path" not in info:
            raise InfoFileError(
                f"{self.ann_file}: expected 'scene_idx' of '{info['token']}': run mmcity data "
                "update (the script update_data.py)"
            )
        if self.ray_origins:
            info["ray_origins"] = self._origins_around(info)
        if self.load_adj_frame:
            self._add_neighbours(info, idx)
        return info

    def _origins_around(self, info: dict) -> np.ndarray:
        scene = info["scene_idx"]
        if scene not in self._lidar_positions:
            positions = []
            for i in range(len(self)):
                frame = super().get_data_info(i)
                if frame.get("scene_idx") == scene:
                    lidar = np.asarray(frame["ego2global"]) @ frame["lidar_points"]["lidar2ego"]
                    positions.append(lidar[:3, 3])
            self._lidar_positions[scene] = np.stack(positions)
        to_ego = np.linalg.inv(np.asarray(info["ego2global"], dtype=np.float64))
        local = self._lidar_positions[scene] @ to_ego[:3, :3].T + to_ego[:3, 3]
        local = local[(np.abs(local[:, :2]) < _RAY_REACH).all(1)]
        chosen = np.linspace(0, len(local) - 1, min(len(local), _RAY_ORIGINS)).round().astype(int)
        return local[chosen].astype(np.float32)

    def _add_neighbours(self, info: dict, idx: int) -> None:
        step = self.interval
        if not isinstance(step, int):
            # numpy's global generator is the one that mmengine seeds in every worker.
            step = int(np.random.randint(step[0], step[1] + 1))  # noqa: NPY002
        scene = info.get("scene_token")
        members = [i for i in range(len(self)) if self._scene_of(i) == scene]
        position = members.index(idx)
        if len(members) < 2 * step + 1:
            raise ValueError(
                f"scene {scene}: expected more key frames for interval {step}, got {len(members)}"
            )
        # At a border the three frames slide inward.
        centre = min(max(position, step), len(members) - 1 - step)
        frames = [super(NuScenesOccDataset, self).get_data_info(members[centre + d])
                  for d in (-step, step)]  # fmt: skip
        poses = [info["ego2global"]]
        for name, frame in zip(("PREV", "NEXT"), frames):
            poses.append(frame["ego2global"])
            for camera, image in frame["images"].items():
                info["images"][f"{name}_{camera}"] = image
        info["ego2global"] = poses

    def _scene_of(self, idx: int) -> str | None:
        return super().get_data_info(idx).get("scene_token")
