"""Resize, crop, flip and rotate images, with the matrix of what was done."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from mmcity.registry import TRANSFORMS

from .base import BaseTransform


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
        """Augment ``img`` and add the matrices to ``img_aug_mat`` (N, 4, 4)."""
        images, matrices = [], []
        for image in results["img"]:
            new, matrix = self.apply(image, *self.sample(image.shape))
            images.append(new)
            matrices.append(matrix)
        results["img"] = images
        results["img_aug_mat"] = np.stack(matrices)
        return results
