"""Transforms on the images of several cameras and the maps that belong to them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mmcity.datasets.io.occupancy_files import read_occ3d_nuscenes_frame
from mmcity.registry import TRANSFORMS
from mmcity.structures.occupancy_data_sample import OccupancyDataSample

from .base import BaseTransform
from .posed_images import read_image

__all__ = [
    "AlignAdjacentCameras",
    "BEVDataAug",
    "BEVLoadMultiViewImageFromFiles",
    "ImageAug3D",
    "LoadFeatMaps",
    "LoadOccFromFile",
    "PackMultiViewInputs",
    "PointToMultiViewDepth",
    "read_feature_map",
    "splat_depth",
]


def _to_4x4(matrix: Sequence) -> np.ndarray:
    result = np.eye(4, dtype=np.float32)
    matrix = np.asarray(matrix, dtype=np.float32)
    result[: matrix.shape[0], : matrix.shape[1]] = matrix
    return result


@TRANSFORMS.register_module()
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

    def __init__(
        self,
        to_float32: bool = True,
        color_type: str = "color",
        num_views: int | None = 6,
        ego_at: str = "sensor",
    ) -> None:
        if color_type != "color":
            raise ValueError(f"color_type must be 'color', got {color_type!r}")
        if ego_at not in ("sensor", "lidar"):
            raise ValueError(f"ego_at must be 'sensor' or 'lidar', got {ego_at!r}")
        self.to_float32 = to_float32
        self.num_views = num_views
        self.ego_at = ego_at

    def transform(self, results: dict) -> dict:
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
                f"{results.get('token')}, {camera}: ego_at='lidar' needs 'lidar2cam' of the image "
                "and 'lidar_points.lidar2ego'"
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
        poses = np.asarray(results["ego2global"], dtype=np.float64)
        if poses.ndim != 3:
            raise ValueError(
                f"{results.get('token')}: AlignAdjacentCameras needs frames before and after; set "
                "load_adj_frame=True in the dataset"
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
        labels, lidar, camera = read_occ3d_nuscenes_frame(Path(results["occ_path"]) / "labels.npz")
        results["gt_semantic_seg"] = labels
        results["mask_lidar"] = lidar
        results["mask_camera"] = camera
        return results


@TRANSFORMS.register_module()
class ImageAug3D(BaseTransform):
    """Resize, crop, flip and rotate every image, and remember how.

    Sets ``img`` and ``img_aug_mat`` (4x4 in homogeneous pixels of the original image).

    Args:
        final_dim: Height and width of the result.
        resize_lim: Factor, or its range in training (the mean in test).
        bot_pct_lim: Share of the resized height below the crop. Defaults to (0, 0).
        rot_lim: Degrees. Defaults to (0, 0).
        rand_flip: Flip half of the training images. Defaults to False.
        is_train: Draw at random. Defaults to False.
    """

    def __init__(
        self,
        final_dim: Sequence[int],
        resize_lim: float | Sequence[float],
        bot_pct_lim: Sequence[float] = (0.0, 0.0),
        rot_lim: Sequence[float] = (0.0, 0.0),
        rand_flip: bool = False,
        is_train: bool = False,
    ) -> None:
        self.final_dim = tuple(final_dim)
        if isinstance(resize_lim, (int, float)):
            resize_lim = (resize_lim, resize_lim)
        self.resize_lim = tuple(resize_lim)
        self.bot_pct_lim = tuple(bot_pct_lim)
        self.rot_lim = tuple(rot_lim)
        self.rand_flip = rand_flip
        self.is_train = is_train

    def sample(self, shape: Sequence[int]) -> tuple[float, tuple, tuple, bool, float]:
        """Factor, resized size (w, h), crop box, flip and rotation for an image (h, w)."""
        # numpy's global generator is the one that mmengine seeds in every worker.
        uniform = np.random.uniform
        height, width = shape[:2]
        final_h, final_w = self.final_dim
        resize = uniform(*self.resize_lim) if self.is_train else float(np.mean(self.resize_lim))
        new_w, new_h = int(width * resize), int(height * resize)
        if self.is_train:
            bottom = uniform(*self.bot_pct_lim)
            left = int(uniform(0, max(0, new_w - final_w)))
            flip = bool(self.rand_flip and np.random.randint(2))  # noqa: NPY002
            angle = uniform(*self.rot_lim)
        else:
            bottom = float(np.mean(self.bot_pct_lim))
            left = int(max(0, new_w - final_w) / 2)
            flip, angle = False, 0.0
        top = int((1 - bottom) * new_h) - final_h
        crop = (left, top, left + final_w, top + final_h)
        return float(resize), (new_w, new_h), crop, flip, angle

    @staticmethod
    def apply(
        image: np.ndarray,
        resize: float,
        size: tuple[int, int],
        crop: tuple[int, int, int, int],
        flip: bool,
        angle: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Augment one image (H, W, 3).

        Returns:
            float32 image, and the 4x4 matrix from original to new pixels.
        """
        picture = Image.fromarray(image.astype(np.uint8)).resize(size)
        picture = picture.crop(crop)
        if flip:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        picture = picture.rotate(angle)
        linear = np.eye(2) * resize
        shift = -np.array(crop[:2], dtype=np.float64)
        width, height = crop[2] - crop[0], crop[3] - crop[1]
        if flip:
            mirror = np.diag([-1.0, 1.0])
            linear, shift = mirror @ linear, mirror @ shift + [width, 0.0]
        theta = np.deg2rad(angle)
        turn = np.array([[np.cos(theta), np.sin(theta)], [-np.sin(theta), np.cos(theta)]])
        centre = np.array([width, height]) / 2
        linear, shift = turn @ linear, turn @ shift + centre - turn @ centre
        matrix = np.eye(4, dtype=np.float32)
        matrix[:2, :2], matrix[:2, 3] = linear, shift
        return np.asarray(picture, dtype=np.float32), matrix

    def transform(self, results: dict) -> dict:
        images, matrices = [], []
        for image in results["img"]:
            new, matrix = self.apply(image, *self.sample(image.shape))
            images.append(new)
            matrices.append(matrix)
        results["img"] = images
        results["img_aug_mat"] = np.stack(matrices)
        return results


def read_feature_map(folder: Path, image_path: str) -> np.ndarray:
    """Stored map of an image: ``<name>.npy`` or ``<name>.npz`` (array ``data`` or its first).

    The name is the image's up to the first dot. A ``meta.json`` beside the maps may give a
    ``scale`` that integers are multiplied by.

    Raises:
        FileNotFoundError: If there is neither file.
        ValueError: If the file is damaged.
    """
    name = Path(image_path).name.split(".")[0]
    plain, packed = folder / f"{name}.npy", folder / f"{name}.npz"
    path = plain if plain.is_file() else packed
    if not path.is_file():
        raise FileNotFoundError(
            f"{plain} (or .npz) does not exist; generate it with tools/generate_targets.py"
        )
    try:
        loaded = np.load(path, allow_pickle=False)
        if path.suffix == ".npz":
            with loaded:
                key = "data" if "data" in loaded.files else loaded.files[0]
                loaded = loaded[key]
    except (ValueError, EOFError, OSError, IndexError) as error:
        raise ValueError(f"{path} is not a readable map ({error}); generate it again") from error
    return loaded


def _map_scale(folder: Path) -> float:
    path = folder / "meta.json"
    return float(json.loads(path.read_text()).get("scale", 1.0)) if path.is_file() else 1.0


@TRANSFORMS.register_module()
class LoadFeatMaps(BaseTransform):
    """Load one stored map per image and stack them as float32 under ``key``.

    Args:
        data_root: Folder of the maps.
        key: Key of the result, such as ``depth``, ``feats`` or ``sem_seg``.
        apply_aug: Resize and crop as ``img_aug_mat`` says (2D maps only). Labels are resized
            by nearest neighbour, anything else bilinearly. Defaults to False.
        final_dim: Height and width to crop to. Defaults to the images'.
    """

    def __init__(
        self,
        data_root: str,
        key: str,
        apply_aug: bool = False,
        final_dim: Sequence[int] | None = None,
    ) -> None:
        self.data_root = data_root
        self.key = key
        self.apply_aug = apply_aug
        self.final_dim = None if final_dim is None else tuple(final_dim)

    def transform(self, results: dict) -> dict:
        folder = Path(self.data_root)
        scale = _map_scale(folder)
        maps = []
        for i, path in enumerate(results["filename"]):
            array = read_feature_map(folder, path).astype(np.float32) * scale
            tensor = torch.from_numpy(array)
            if self.apply_aug:
                final = self.final_dim or results["img"][i].shape[:2]
                tensor = self.augment(tensor, results["img_aug_mat"][i], final, path)
            maps.append(tensor)
        shapes = {tuple(m.shape) for m in maps}
        if len(shapes) > 1:
            raise ValueError(f"{folder}: maps of one sample differ in shape: {sorted(shapes)}")
        results[self.key] = torch.stack(maps)
        return results

    @staticmethod
    def augment(
        values: Tensor, matrix: np.ndarray, final_dim: Sequence[int] | None, path: str = "map"
    ) -> Tensor:
        """Resize and crop a map ``(h, w)`` as an image was.

        A map at network size already (its size is ``final_dim``) stays as it is.
        """
        if values.dim() != 2:
            raise ValueError(f"{path}: only 2D maps can be augmented, got {tuple(values.shape)}")
        if abs(matrix[0, 1]) > 1e-6 or abs(matrix[1, 0]) > 1e-6:
            raise ValueError(f"{path}: maps cannot follow a rotation or shear of the image")
        if final_dim is not None and tuple(values.shape) == tuple(final_dim):
            return values
        height = int(values.shape[0] * matrix[1, 1] + 0.5)
        width = int(values.shape[1] * matrix[0, 0] + 0.5)
        stacked = values[None, None]
        if bool((values == values.round()).all()):
            resized = F.interpolate(stacked, (height, width), mode="nearest")[0, 0]
        else:
            resized = F.interpolate(stacked, (height, width), mode="bilinear", align_corners=False)[
                0, 0
            ]
        top, left = int(-matrix[1, 3]), int(-matrix[0, 3])
        resized = resized[max(top, 0) :, max(left, 0) :]
        if final_dim is None:
            return resized
        return resized[: final_dim[0], : final_dim[1]]


def splat_depth(
    points: np.ndarray, shape: Sequence[int], depth_range: Sequence[float], downsample: int = 1
) -> np.ndarray:
    """Nearest depth per cell of projected points.

    Args:
        points: ``(P, 3)`` pixel x, pixel y, z-depth.
        shape: Height and width of the image.
        depth_range: Smallest depth, and the first that is too large.
        downsample: Pixels per cell. Defaults to 1.

    Returns:
        float32 ``(H // downsample, W // downsample)``, 0 where no point falls.
    """
    height, width = shape[0] // downsample, shape[1] // downsample
    cols, rows = np.round(points[:, :2] / downsample).astype(np.int64).T
    depth = points[:, 2]
    inside = (cols >= 0) & (cols < width) & (rows >= 0) & (rows < height)
    inside &= (depth >= depth_range[0]) & (depth < depth_range[1])
    result = np.full((height, width), np.inf, dtype=np.float32)
    np.minimum.at(result, (rows[inside], cols[inside]), depth[inside].astype(np.float32))
    result[np.isinf(result)] = 0.0
    return result


@TRANSFORMS.register_module()
class PointToMultiViewDepth(BaseTransform):
    """Project the lidar points into every augmented image, as ``gt_depth`` ``(N, h, w)``.

    Args:
        depth_cfg: Smallest depth, and the first that is too large, in metres.
        downsample: Pixels per cell. Defaults to 1.
    """

    def __init__(self, depth_cfg: Sequence[float], downsample: int = 1) -> None:
        self.depth_cfg = tuple(depth_cfg[:2])
        self.downsample = downsample

    def transform(self, results: dict) -> dict:
        points = np.asarray(results["points"])[:, :3].astype(np.float64)
        maps = []
        for i, image in enumerate(results["img"]):
            matrix = results["cam2img"][i].astype(np.float64) @ results["lidar2cam"][i]
            projected = points @ matrix[:3, :3].T + matrix[:3, 3]
            projected = projected[projected[:, 2] > 1e-6]
            projected[:, :2] /= projected[:, 2:]
            aug = results["img_aug_mat"][i].astype(np.float64)
            projected = projected @ aug[:3, :3].T + aug[:3, 3]
            maps.append(splat_depth(projected, image.shape, self.depth_cfg, self.downsample))
        results["gt_depth"] = torch.from_numpy(np.stack(maps))
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
            "sample_idx",
            "token",
            "scene_idx",
            "img_path",
            "num_views",
            "ori_shape",
            "cam2img",
            "cam2ego",
        ),
    ) -> None:
        self.keys = tuple(keys)
        self.with_target = with_target
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        images = np.stack(results["img"]).transpose(0, 3, 1, 2)
        inputs = {"img": torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))}
        for key in self.keys:
            if key not in results:
                raise KeyError(
                    f"PackMultiViewInputs needs '{key}'; add the transform that makes it"
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
