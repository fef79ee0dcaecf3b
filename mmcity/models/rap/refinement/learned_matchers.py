"""Learned matchers: the user brings the package and the weights.

All take two images ``(3, H, W)`` in [0, 1] and give :class:`Matches` with pixel centres at
+0.5. Nothing is fetched from a network. Mind the licences: MASt3R's code and weights are for
non-commercial use only.
"""

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcity.registry import TASK_UTILS
from mmcity.utils.dependencies import import_library
from mmcity.utils.device import device_at_hand
from mmcity.utils.torch_files import read_torch

from .matching import Matches


def _package(name: str, matcher: str, source: str) -> ModuleType:
    hint = f"install it from {source}, or take the matcher SIFTMatcher, which needs no weights"
    return import_library(name, matcher, hint)


def _weights(path: str | os.PathLike | None, matcher: str, what: str) -> Path:
    if path is None:
        raise ValueError(f"{matcher}: weights: expected {what}, got none")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{matcher}: weights: expected {what}, found no {path}")
    return path


def _to_uint8(image: Tensor) -> np.ndarray:
    return (image.detach().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


@TASK_UTILS.register_module()
class LightGlueMatcher:
    """SuperPoint and LightGlue (Lindenberger et al., 2023) through ``transformers``.

    Args:
        weights (str): Folder of a saved ``LightGlueForKeypointMatching`` with its image
            processor, as ``save_pretrained`` writes it.
        threshold (float): Least score of a match. Defaults to 0.1.
        device (str, optional): Defaults to CUDA where it is.
    """

    def __init__(
        self,
        weights: str | os.PathLike | None = None,
        threshold: float = 0.1,
        device: str | None = None,
    ) -> None:
        name = type(self).__name__
        transformers = _package("transformers", name, "pip install transformers")
        folder = _weights(weights, name, "a folder with config, processor and weights")
        self.processor = transformers.AutoImageProcessor.from_pretrained(
            folder, local_files_only=True
        )
        model = transformers.AutoModelForKeypointMatching.from_pretrained(
            folder, local_files_only=True
        )
        self.device, self.threshold = device_at_hand(device), threshold
        self.model = model.to(self.device).eval()

    @torch.no_grad()
    def __call__(self, query: Tensor, reference: Tensor) -> Matches:
        """Matches of a query with a render."""
        pair = [_to_uint8(query), _to_uint8(reference)]
        inputs = self.processor(images=[pair], return_tensors="pt").to(self.device)
        outputs = self.model(**inputs)
        sizes = [[tuple(image.shape[-2:]) for image in (query, reference)]]
        (found,) = self.processor.post_process_keypoint_matching(
            outputs, sizes, threshold=self.threshold
        )
        # Key points count from the centre of the first pixel.
        return Matches(
            found["keypoints0"].double().cpu().numpy() + 0.5,
            found["keypoints1"].double().cpu().numpy() + 0.5,
            found["matching_scores"].double().cpu().numpy(),
        )


@TASK_UTILS.register_module()
class RoMaMatcher:
    """RoMa (Edstedt et al., 2024) through its package ``romatch``.

    Args:
        weights (str): File with the matcher's state dict.
        dinov2_weights (str): File with the state dict of its DINOv2 backbone.
        max_matches (int): Drawn from the dense warp. Defaults to 5000.
        device (str, optional): Defaults to CUDA where it is.
    """

    def __init__(
        self,
        weights: str | os.PathLike | None = None,
        dinov2_weights: str | os.PathLike | None = None,
        max_matches: int = 5000,
        device: str | None = None,
    ) -> None:
        name = type(self).__name__
        package = _package("romatch", name, "pip install romatch")
        files = [
            _weights(weights, name, "a file with the matcher's state dict"),
            _weights(dinov2_weights, name, "a file with DINOv2's state dict (dinov2_weights)"),
        ]
        states = [read_torch(file) for file in files]
        self.device, self.max_matches = device_at_hand(device), max_matches
        self.model = package.roma_outdoor(
            device=self.device, weights=states[0], dinov2_weights=states[1]
        )

    @torch.no_grad()
    def __call__(self, query: Tensor, reference: Tensor) -> Matches:
        """Matches of a query with a render."""
        from PIL import Image

        pictures = [Image.fromarray(_to_uint8(image)) for image in (query, reference)]
        warp, certainty = self.model.match(*pictures, device=self.device)
        matches, scores = self.model.sample(warp, certainty, num=self.max_matches)
        # Normalised coordinates: -1 and 1 are the outer edges of the picture.
        shapes = [image.shape[-2:] for image in (query, reference)]
        flat = matches.double().cpu().numpy()
        first, second = (
            (flat[:, 2 * k : 2 * k + 2] + 1) / 2 * np.array([width, height])
            for k, (height, width) in enumerate(shapes)
        )
        return Matches(first, second, scores.double().cpu().numpy().reshape(-1))


@TASK_UTILS.register_module()
class MASt3RMatcher:
    """MASt3R (Leroy et al., 2024) through its own repository on the import path.

    Images are resized to a long side of 512 px and cropped to multiples of 16; descriptors are
    matched by reciprocal nearest neighbours from a grid of seeds, and pixels go back through
    the very same resize and crop.

    Args:
        weights (str): File or folder that ``AsymmetricMASt3R.from_pretrained`` takes.
        long_side (int): px. Defaults to 512.
        grid (int): px between seeds. Defaults to 8.
        border (int): px at the edge where matches are dropped. Defaults to 3.
        device (str, optional): Defaults to CUDA where it is.
    """

    def __init__(
        self,
        weights: str | os.PathLike | None = None,
        long_side: int = 512,
        grid: int = 8,
        border: int = 3,
        device: str | None = None,
    ) -> None:
        name = type(self).__name__
        package = _package("mast3r.model", name, "its repository on the import path")
        path = _weights(weights, name, "a checkpoint")
        self.device = device_at_hand(device)
        self.model = package.AsymmetricMASt3R.from_pretrained(str(path)).to(self.device).eval()
        self.long_side, self.grid, self.border = long_side, grid, border

    @torch.no_grad()
    def __call__(self, query: Tensor, reference: Tensor) -> Matches:
        """Matches of a query with a render."""
        (first, to_first), (second, to_second) = (
            fit_to_patches(image, self.long_side) for image in (query, reference)
        )
        views = [self._view(picture, row) for row, picture in enumerate((first, second))]
        results = self.model(*views)
        descriptors = [result["desc"][0].float() for result in results]  # (H, W, D)
        pixels = reciprocal_matches(*descriptors, grid=self.grid)
        confidence = results[0].get("desc_conf")
        keep = np.ones(len(pixels[0]), bool)
        for points, picture in zip(pixels, (first, second)):
            height, width = picture.shape[-2:]
            inside = (points >= self.border) & (
                points < [width - self.border, height - self.border]
            )
            keep &= inside.all(1)
        scores = np.ones(len(keep))
        if confidence is not None:
            x, y = pixels[0].T
            raw = confidence[0].float().cpu().numpy()[y, x]
            scores = raw / (1 + raw)
        return Matches(
            to_first(pixels[0][keep] + 0.5), to_second(pixels[1][keep] + 0.5), scores[keep]
        )

    def _view(self, picture: Tensor, row: int) -> dict[str, Any]:
        height, width = picture.shape[-2:]
        return {
            "img": (picture[None] * 2 - 1).to(self.device),
            "true_shape": torch.tensor([[height, width]]),
            "idx": row,
            "instance": str(row),
        }


def fit_to_patches(image: Tensor, long_side: int, patch: int = 16):
    """An image resized and centre-cropped to whole patches, and the way back for pixels.

    Square pictures are cropped to 4:3, as the network was trained.

    Returns:
        tuple: Picture ``(3, h, w)`` and a function from its pixels ``(M, 2)`` (centres at
        +0.5) to those of the image.
    """
    height, width = image.shape[-2:]
    scale = long_side / max(height, width)
    size = (max(patch, round(height * scale)), max(patch, round(width * scale)))
    mode = "bicubic"
    resized = F.interpolate(image[None], size, mode=mode, antialias=scale < 1).clamp(0, 1)[0]
    crop = [side // patch * patch for side in size]
    if crop[0] == crop[1]:
        crop[0] = crop[0] * 3 // 4 // patch * patch
    top, left = (size[0] - crop[0]) // 2, (size[1] - crop[1]) // 2
    factors = np.array([width / size[1], height / size[0]])

    def back(pixels: np.ndarray) -> np.ndarray:
        return (np.asarray(pixels, float) + [left, top]) * factors

    return resized[:, top : top + crop[0], left : left + crop[1]], back


def reciprocal_matches(
    first: Tensor, second: Tensor, grid: int = 8, max_rounds: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels whose descriptors are each other's nearest, found from a grid of seeds.

    Args:
        first, second (Tensor): ``(H, W, D)`` descriptors, compared by their dot product.
        grid (int): px between the seeds in ``first``.
        max_rounds (int): Seeds walk to the nearest of their nearest at most so often.

    Returns:
        tuple[np.ndarray, np.ndarray]: ``(M, 2)`` int x, y in both, each pair once.
    """
    height, width = first.shape[:2]
    flat = [d.reshape(-1, d.shape[-1]) for d in (first, second)]
    ys = torch.arange(grid // 2, height, grid, device=first.device)
    xs = torch.arange(grid // 2, width, grid, device=first.device)
    here = (ys[:, None] * width + xs).flatten()

    def nearest(rows: Tensor, source: Tensor, target: Tensor) -> Tensor:
        chunks = [(source[part] @ target.T).argmax(1) for part in rows.split(1024)]
        return torch.cat(chunks) if chunks else rows

    pairs = []
    for _ in range(max_rounds):
        there = nearest(here, flat[0], flat[1])
        back = nearest(there, flat[1], flat[0])
        settled = back == here
        pairs.append(torch.stack([here[settled], there[settled]], 1))
        here = back[~settled].unique()
        if not len(here):
            break
    rows = torch.cat(pairs).unique(dim=0).cpu().numpy()
    other = second.shape[1]
    return (
        np.stack([rows[:, 0] % width, rows[:, 0] // width], 1),
        np.stack([rows[:, 1] % other, rows[:, 1] // other], 1),
    )
