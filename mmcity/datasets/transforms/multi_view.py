"""Images and matrices of several cameras, and the occupancy about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mmcity.datasets.io.occupancy_files import read_occ3d_nuscenes_frame
from mmcity.registry import TRANSFORMS
from mmcity.structures import OccupancyDataSample
from mmcity.utils.checks import check_choice
from mmcity.utils.picture_files import read_image

from .base import BaseTransform


def _to_4x4(matrix: Sequence) -> np.ndarray:
    result = np.eye(4, dtype=np.float32)
    matrix = np.asarray(matrix, dtype=np.float32)
    result[: matrix.shape[0], : matrix.shape[1]] = matrix
    return result


@TRANSFORMS.register_module()
@dataclass(eq=False)
class BEVLoadMultiViewImageFromFiles(BaseTransform):
    """Load the images of all cameras as RGB, with their matrices.

    Args:
        to_float32: Images as float32 0..255 instead of uint8. Defaults to True.
        color_type: Only ``color``. Defaults to ``color``.
        num_views: Number of images expected; None accepts any. Defaults to 6.
        ego_at: ``sensor`` uses ``cam2ego`` as stored (each camera's own ego pose);
            ``lidar`` derives it at the time of the lidar sweep, to which the occupancy
            belongs. Defaults to ``sensor``.
    """

    to_float32: bool = True
    color_type: str = "color"
    num_views: int | None = 6
    ego_at: str = "sensor"

    def __post_init__(self) -> None:
        if self.color_type != "color":
            raise ValueError(f"color_type: expected 'color', got {self.color_type!r}")
        check_choice("ego_at", self.ego_at, ("sensor", "lidar"))

    def transform(self, results: dict) -> dict:
        """Add ``img`` and the matrices of all views."""
        images, names = [], []
        matrices: dict[str, list] = {"cam2img": [], "cam2ego": [], "lidar2cam": []}
        for camera, info in results["images"].items():
            images.append(self._read(info["img_path"]))
            names.append(info["img_path"])
            matrices["cam2img"].append(_to_4x4(info["cam2img"]))
            lidar2cam = info.get("lidar2cam")
            matrices["lidar2cam"].append(_to_4x4(np.eye(4) if lidar2cam is None else lidar2cam))
            matrices["cam2ego"].append(self._cam_to_ego(camera, info, results))
        if self.num_views is not None and len(images) % self.num_views:
            raise ValueError(
                f"{results.get('token')}: expected {self.num_views} images (or a multiple), got "
                f"{len(images)}: {sorted(results['images'])}"
            )
        height = max(image.shape[0] for image in images)
        width = max(image.shape[1] for image in images)
        results["img"] = [
            np.pad(im, ((0, height - im.shape[0]), (0, width - im.shape[1]), (0, 0)))
            for im in images
        ]
        results["filename"] = results["img_path"] = names
        results.update({key: np.stack(values) for key, values in matrices.items()})
        results["ori_cam2img"] = results["cam2img"].copy()
        results["ori_shape"] = results["img_shape"] = results["pad_shape"] = (height, width)
        results["num_views"] = len(images)
        return results

    def _read(self, path: str) -> np.ndarray:
        array = read_image(path)
        return array.astype(np.float32) if self.to_float32 else array

    def _cam_to_ego(self, camera: str, info: dict, results: dict) -> np.ndarray:
        if self.ego_at == "sensor":
            return _to_4x4(info["cam2ego"])
        lidar = results.get("lidar_points", {})
        if "lidar2ego" not in lidar or "lidar2cam" not in info:
            raise KeyError(
                f"{results.get('token')}, {camera}: expected 'lidar2cam' of the image and "
                "'lidar_points.lidar2ego' for ego_at='lidar', got none"
            )
        lidar2cam = np.asarray(info["lidar2cam"], dtype=np.float64)
        lidar2ego = np.asarray(lidar["lidar2ego"], dtype=np.float64)
        return (lidar2ego @ np.linalg.inv(lidar2cam)).astype(np.float32)


@TRANSFORMS.register_module()
class AlignAdjacentCameras(BaseTransform):
    """Carry the cameras of frames before and after into the ego frame of this one.

    Takes what ``NuScenesOccDataset(load_adj_frame=True)`` gives: images of this frame, then of
    the one before and the one after, and ``ego2global`` of the three. What stands still lies
    at one place then; moving things do not.
    """

    def transform(self, results: dict) -> dict:
        """Take the cameras of adjacent frames to the ego frame of the first."""
        poses = np.asarray(results["ego2global"], dtype=np.float64)
        if poses.ndim != 3:
            raise ValueError(
                f"{results.get('token')}: expected frames before and after for "
                "AlignAdjacentCameras, got none: set load_adj_frame=True in the dataset"
            )
        per_frame = len(results["cam2ego"]) // len(poses)
        to_current = np.linalg.inv(poses[0]) @ poses  # (T, 4, 4)
        frames = results["cam2ego"].reshape(len(poses), per_frame, 4, 4).astype(np.float64)
        aligned = to_current[:, None] @ frames
        results["cam2ego"] = aligned.reshape(-1, 4, 4).astype(np.float32)
        results["ego2global"] = poses[0]
        return results


@TRANSFORMS.register_module()
class LoadOccFromFile(BaseTransform):
    """Read ``<occ_path>/labels.npz``: ``gt_semantic_seg``, ``mask_lidar``, ``mask_camera``."""

    def transform(self, results: dict) -> dict:
        """Add the labels and masks of ``occ_path``."""
        labels, lidar, camera = read_occ3d_nuscenes_frame(Path(results["occ_path"]) / "labels.npz")
        results["gt_semantic_seg"] = labels
        results["mask_lidar"] = lidar
        results["mask_camera"] = camera
        return results


@TRANSFORMS.register_module()
class BEVDataAug(BaseTransform):
    """Flip the ego frame: targets and masks along x or y, and ``bev_aug_mat`` (3x3).

    Args:
        flip_x, flip_y: Probability of a flip of the axis. Defaults to 0.5 each.
    """

    def __init__(self, flip_x: float = 0.5, flip_y: float = 0.5) -> None:
        self.flip_x = flip_x
        self.flip_y = flip_y

    def transform(self, results: dict) -> dict:
        """Add the matrix of a random flip."""
        matrix = np.eye(3, dtype=np.float32)
        for axis, prob in ((0, self.flip_x), (1, self.flip_y)):
            if np.random.rand() < prob:  # noqa: NPY002 - seeded by mmengine
                matrix[axis, axis] = -1
                for key in ("gt_semantic_seg", "mask_lidar", "mask_camera"):
                    if key in results:
                        results[key] = np.flip(results[key], axis).copy()
        results["bev_aug_mat"] = matrix
        return results


@TRANSFORMS.register_module()
class PackMultiViewInputs(BaseTransform):
    """Pack images, matrices and maps into ``inputs`` and targets onto the data sample.

    Args:
        keys: Results that become tensors of ``inputs`` beside the images.
        with_target: Put occupancy and its masks on the data sample. Defaults to True.
        meta_keys: Results kept as metainfo.
    """

    def __init__(
        self,
        keys: Sequence[str] = ("cam2img", "cam2ego", "img_aug_mat", "depth"),
        with_target: bool = True,
        meta_keys: Sequence[str] = (
            *("sample_idx", "token", "scene_idx", "img_path"),
            *("num_views", "ori_shape", "cam2img", "cam2ego"),
        ),
    ) -> None:
        self.keys = tuple(keys)
        self.with_target = with_target
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        """Pack ``inputs`` of tensors and a data sample."""
        images = np.stack(results["img"]).transpose(0, 3, 1, 2)
        inputs = {"img": torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))}
        for key in self.keys:
            if key not in results:
                raise KeyError(
                    f"PackMultiViewInputs: expected '{key}': add the transform that makes it"
                )
            inputs[key] = torch.as_tensor(results[key])
        sample = OccupancyDataSample(
            metainfo={key: results[key] for key in self.meta_keys if key in results}
        )
        if self.with_target and "gt_semantic_seg" in results:
            sample.gt_occupancy = torch.from_numpy(np.ascontiguousarray(results["gt_semantic_seg"]))
            for key in ("mask_camera", "mask_lidar"):
                sample.set_data({key: torch.from_numpy(np.ascontiguousarray(results[key]))})
        if "ray_origins" in results:
            sample.set_data({"ray_origins": torch.from_numpy(results["ray_origins"])})
        return {"inputs": inputs, "data_samples": sample}
