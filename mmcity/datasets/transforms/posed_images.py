"""From an image file with a camera to the item that a scene model takes."""

import math

import numpy as np
import torch
from PIL import Image

from mmcity.registry import TRANSFORMS
from mmcity.structures import Cameras, SceneDataSample
from mmcity.utils.checks import check_choice
from mmcity.utils.picture_files import ImageReadError as ImageReadError
from mmcity.utils.picture_files import image_size as image_size
from mmcity.utils.picture_files import read_image, read_mask

from .base import BaseTransform

_ALPHA = ("drop", "mask", "white", "black")


def target_size(
    width: int,
    height: int,
    *,
    factor: float | None = None,
    long_side: int | None = None,
    target_width: int | None = None,
    resolution: float | None = None,
) -> tuple[int, int]:
    """Size after a resize rule; at most one rule may be given.

    Args:
        width (int): px before.
        height (int): px before.
        factor (float, optional): Both sides are divided by it and rounded.
        long_side (int, optional): The longer side gets this length, if it was longer.
        target_width (int, optional): The width gets this length.
        resolution (float, optional): The argument ``-r`` of the research codes: below 10 a
            divisor, from 10 a target width, -1 caps the width at 1600.

    Returns:
        tuple[int, int]: Width and height after, at least 1.
    """
    rules = {
        "factor": factor,
        "long_side": long_side,
        "target_width": target_width,
        "resolution": resolution,
    }
    given = {name: value for name, value in rules.items() if value is not None}
    if len(given) > 1:
        raise ValueError(f"expected at most one resize rule, got {given}")
    for name, value in given.items():
        if not (math.isfinite(value) and (value > 0 or (name == "resolution" and value == -1))):
            raise ValueError(f"{name}: expected a number above 0, got {value}")
    if resolution is not None:
        if resolution == -1:
            factor = max(width / 1600, 1)
        elif resolution < 10:
            factor = resolution
        else:
            target_width = resolution
    if long_side is not None:
        factor = max(max(width, height) / long_side, 1)
    if target_width is not None:
        factor = width / target_width
    if factor is None:
        return width, height
    return max(round(width / factor), 1), max(round(height / factor), 1)


@TRANSFORMS.register_module()
class LoadPosedImage(BaseTransform):
    """Read the image, its mask and its depth prior.

    Takes ``img_path`` and optionally ``mask_path``, ``depth_path``, ``depth_scale``,
    ``depth_offset``, ``depth_kind``. Gives ``img`` (H, W, 3) uint8 and, where there is one,
    ``mask`` (H, W) uint8 (nonzero: the pixel counts) and ``depth`` (H, W) float32, which is
    ``value * depth_scale + depth_offset`` with 0 for "none".

    Args:
        alpha (str): What a fourth channel means: ``drop`` it, take it as ``mask``, or put the
            picture on ``white`` or ``black``. Defaults to ``drop``.
    """

    def __init__(self, alpha: str = "drop") -> None:
        check_choice("alpha", alpha, _ALPHA)
        self.alpha = alpha

    def transform(self, results: dict) -> dict:
        """See the class."""
        if self.alpha == "drop":
            img = read_image(results["img_path"])
        else:
            rgba = read_image(results["img_path"], "RGBA")
            img, cover = rgba[..., :3], rgba[..., 3]
            if self.alpha == "mask":
                img = np.ascontiguousarray(img)
                if not cover.all():
                    results["mask"] = cover
            else:
                share = cover[..., None] / np.float32(255)
                back = 255.0 if self.alpha == "white" else 0.0
                img = (img * share + back * (1 - share)).round().astype(np.uint8)
        results["img"] = img
        if results.get("mask_path"):
            # PIL's nearest resize takes masks of another size to that of the image.
            mask = _to_size(read_mask(results["mask_path"]), img, "nearest").astype(np.uint8)
            results["mask"] = mask * (results["mask"] > 0) if "mask" in results else mask
        if results.get("depth_path"):
            raw = _one_channel(read_image(results["depth_path"], None)).astype(np.float32)
            depth = raw * np.float32(results.get("depth_scale", 1.0))
            depth = (depth + np.float32(results.get("depth_offset", 0.0))).clip(min=0)
            if results.get("depth_kind") == "metric":
                depth[raw == 0] = 0
            results["depth"] = depth
        return results


def _one_channel(values: np.ndarray) -> np.ndarray:
    """The first channel of a map with equal ones, else the largest."""
    if values.ndim == 2:
        return values
    if values.shape[-1] in (2, 4):
        values = values[..., :-1]  # alpha
    return values[..., 0] if (values[..., :1] == values).all() else values.max(-1)


_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "area": Image.Resampling.BOX,
}


def _to_size(values: np.ndarray, like: np.ndarray, method: str) -> np.ndarray:
    height, width = like.shape[:2]
    if values.shape[:2] == (height, width):
        return values
    if values.dtype not in (np.uint8, np.float32):
        values = (values > 0).astype(np.uint8)
    image = Image.fromarray(values)
    return np.array(image.resize((width, height), _FILTERS[method]))


@TRANSFORMS.register_module()
class ResizePosedImage(BaseTransform):
    """Resize image, mask, depth and camera; intrinsics follow the exact ratio of each axis.

    Images are filtered by PIL with antialiasing, masks and metric depth take the nearest
    value, inverse depth is filtered bilinearly.

    Args:
        interpolation (str): ``bicubic``, ``lanczos``, ``bilinear``, ``area`` or ``nearest``.
            Defaults to ``bicubic``.
        **rule: One of ``factor``, ``long_side``, ``target_width``, ``resolution`` (see
            :func:`target_size`); none keeps the size.
    """

    def __init__(self, interpolation: str = "bicubic", **rule) -> None:
        check_choice("interpolation", interpolation, _FILTERS)
        target_size(100, 100, **rule)  # refuses unknown or contradicting rules here
        self.interpolation = interpolation
        self.rule = rule

    def update_camera(self, results: dict) -> dict:
        """Resize only the camera."""
        camera = results["camera"]
        results["camera"] = camera.resize(*target_size(*camera.one_size(), **self.rule))
        return results

    def transform(self, results: dict) -> dict:
        """See the class."""
        results = self.update_camera(results)
        width, height = results["camera"].one_size()
        img = results["img"]
        if img.shape[:2] != (height, width):
            method = _FILTERS[self.interpolation]
            results["img"] = np.array(Image.fromarray(img).resize((width, height), method))
        if "mask" in results:
            results["mask"] = _to_size(results["mask"], results["img"], "nearest")
        if "depth" in results:
            smooth = "bilinear" if results.get("depth_kind") == "inverse" else "nearest"
            results["depth"] = _to_size(results["depth"], results["img"], smooth)
        return results


@TRANSFORMS.register_module()
class PackSceneInputs(BaseTransform):
    """Turn results into ``dict(inputs=..., data_samples=...)``.

    ``inputs`` holds ``img`` (3, H, W) uint8 and, where present, ``mask`` (H, W) bool,
    ``depth`` or ``inverse_depth`` (H, W) float32. ``data_samples`` is a
    :class:`~mmcity.structures.SceneDataSample` with ``camera``, ``gt_mask``, ``gt_depth``,
    ``gt_inverse_depth`` and the metainfo.
    """

    #: Results that become metainfo where they exist.
    META_KEYS = ("img_name", "img_path", "index", "camera_index", "split", "ori_shape", "frame")

    def transform(self, results: dict) -> dict:
        """See the class."""
        camera: Cameras = results["camera"]
        # permute + contiguous copies, so that nothing can write into a cached picture.
        image = torch.from_numpy(results["img"]).permute(2, 0, 1).contiguous()
        meta = {key: results[key] for key in self.META_KEYS if key in results}
        meta["img_shape"] = tuple(image.shape[1:])
        sample = SceneDataSample(metainfo=meta)
        sample.camera = camera
        inputs = {"img": image}
        if "mask" in results:
            inputs["mask"] = sample.gt_mask = torch.from_numpy(results["mask"] > 0)
        if "depth" in results:
            depth = torch.from_numpy(results["depth"].copy())
            if results.get("depth_kind") == "inverse":
                inputs["inverse_depth"] = sample.gt_inverse_depth = depth
            else:
                inputs["depth"] = sample.gt_depth = depth
        return {"inputs": inputs, "data_samples": sample}
