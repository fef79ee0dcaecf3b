"""Maps that belong to the images of several cameras: stored ones, and projected points."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcity.datasets.io.map_store import map_name
from mmcity.registry import TRANSFORMS
from mmcity.utils.fileio import read_arrays, read_json
from mmcity.utils.picture_names import check_unique

from .base import BaseTransform


def read_feature_map(folder: Path, image_path: str) -> np.ndarray:
    """Stored map of an image: ``<name>.npy`` or ``<name>.npz`` (array ``data`` or its first).

    The name is the image's up to the first dot. A ``meta.json`` beside the maps may give a
    ``scale`` that integers are multiplied by.

    Raises:
        FileNotFoundError: If there is neither file.
        ValueError: If the file is damaged.
    """
    name = map_name(image_path)
    plain, packed = folder / f"{name}.npy", folder / f"{name}.npz"
    path = plain if plain.is_file() else packed
    if not path.is_file():
        raise FileNotFoundError(
            f"{plain}: expected this or .npz: generate it with tools/generate_targets.py"
        )
    try:
        arrays = read_arrays(path)
    except ValueError as error:
        raise ValueError(f"{path}: expected a readable map: generate it again ({error})") from error
    if not arrays:
        raise ValueError(f"{path}: expected a readable map, got no array: generate it again")
    return arrays.get("data", next(iter(arrays.values())))


def _map_scale(folder: Path) -> float:
    path = folder / "meta.json"
    return float(read_json(path).get("scale", 1.0)) if path.is_file() else 1.0


@TRANSFORMS.register_module()
@dataclass(eq=False)
class LoadFeatMaps(BaseTransform):
    """Load one stored map per image and stack them as float32 under ``key``.

    Args:
        data_root: Folder of the maps.
        key: Key of the result, such as ``depth``, ``feats`` or ``sem_seg``.
        apply_aug: Resize and crop as ``img_aug_mat`` says (2D maps only). Labels are resized
            by nearest neighbour, anything else bilinearly. Defaults to False.
        final_dim: Height and width to crop to. Defaults to the images'.
    """

    data_root: str
    key: str
    apply_aug: bool = False
    final_dim: Sequence[int] | None = None

    def transform(self, results: dict) -> dict:
        """Add the map of each image under ``key``."""
        folder = Path(self.data_root)
        scale = _map_scale(folder)
        maps = []
        check_unique({path: map_name(path) for path in results["filename"]}, f"the {self.key}")
        for i, path in enumerate(results["filename"]):
            array = read_feature_map(folder, path).astype(np.float32) * scale
            tensor = torch.from_numpy(array)
            if self.apply_aug:
                final = self.final_dim or results["img"][i].shape[:2]
                tensor = self.augment(tensor, results["img_aug_mat"][i], final, path)
            maps.append(tensor)
        shapes = {tuple(m.shape) for m in maps}
        if len(shapes) > 1:
            raise ValueError(f"{folder}: expected maps of one shape a sample, got {sorted(shapes)}")
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
            raise ValueError(f"{path}: expected 2D maps to augment, got {tuple(values.shape)}")
        if abs(matrix[0, 1]) > 1e-6 or abs(matrix[1, 0]) > 1e-6:
            raise ValueError(
                f"{path}: expected no rotation or shear of the image, which maps cannot follow"
            )
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
        """Add ``gt_depth`` (N, H, W), float32 metres, 0 where no point falls."""
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
