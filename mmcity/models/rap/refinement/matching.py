"""Matchers between a query and a render. Registered ones are found by name in configs.

A matcher is called with two images ``(3, H, W)`` in [0, 1] (sizes may differ) and returns
:class:`Matches`. Register one of your own in ``TASK_UTILS``; learned ones bring their own
package and weights.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from mmcity.registry import TASK_UTILS
from mmcity.utils.images import to_grey


class Matches(NamedTuple):
    """Corresponding pixels, centres at +0.5.

    Attributes:
        query (np.ndarray): ``(M, 2)`` x, y in the query.
        reference (np.ndarray): ``(M, 2)`` x, y in the reference.
        confidence (np.ndarray): ``(M,)`` in [0, 1].
    """

    query: np.ndarray
    reference: np.ndarray
    confidence: np.ndarray


def _to_gray(image: Tensor) -> np.ndarray:
    return (to_grey(image.float().cpu()).clamp(0, 1) * 255).round().to(torch.uint8).numpy()


@TASK_UTILS.register_module()
class SIFTMatcher:
    """SIFT keypoints, RootSIFT descriptors, mutual neighbours that pass the ratio test.

    Needs no weights. Changes of exposure hardly matter; large changes of view do.

    Args:
        max_keypoints (int): Per image. Defaults to 4000.
        ratio (float): A match's distance over that to the second neighbour. Defaults to 0.85.
    """

    def __init__(self, max_keypoints: int = 4000, ratio: float = 0.85) -> None:
        self.max_keypoints, self.ratio = max_keypoints, ratio

    def extract(self, image: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints ``(N, 2)`` and unit descriptors ``(N, 128)`` of an image."""
        sift = cv2.SIFT_create(self.max_keypoints, contrastThreshold=0.02)
        keypoints, descriptors = sift.detectAndCompute(_to_gray(image), None)
        if descriptors is None:
            return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
        # OpenCV counts from the centre of the first pixel.
        pixels = np.array([point.pt for point in keypoints]) + 0.5
        descriptors = descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-12)
        return pixels, np.sqrt(descriptors).astype(np.float32)

    def match(self, query: tuple, reference: tuple) -> Matches:
        """Matches of two results of :meth:`extract`."""
        if min(len(query[0]), len(reference[0])) < 2:
            return Matches(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0))
        first, second = torch.from_numpy(query[1]), torch.from_numpy(reference[1])
        similarity = first @ second.T
        best, columns = similarity.topk(2, dim=1)
        distances = (2 - 2 * best).clamp_min(0).sqrt()
        ratios = distances[:, 0] / distances[:, 1].clamp_min(1e-12)
        back = similarity.argmax(0)
        rows = torch.arange(len(first))
        keep = (back[columns[:, 0]] == rows) & (ratios < self.ratio)
        rows, columns = rows[keep].numpy(), columns[keep, 0].numpy()
        return Matches(query[0][rows], reference[0][columns], (1 - ratios[keep]).numpy())

    def __call__(self, query: Tensor, reference: Tensor) -> Matches:
        """Matches of a query with a render."""
        return self.match(self.extract(query), self.extract(reference))
