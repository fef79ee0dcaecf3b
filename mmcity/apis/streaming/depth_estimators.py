"""Sources of inverse depth for the priors of per-scene reconstruction."""

import os
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from mmcity.toytown.writers.citygsx import make_depth_prior
from mmcity.utils.cli import UserError
from mmcity.utils.dependencies import import_library
from mmcity.utils.device import device_at_hand
from mmcity.utils.failures import ItemFailures
from mmcity.utils.images import IMAGE_SUFFIXES, list_images
from mmcity.utils.made_from import file_digest, keep_made_alike
from mmcity.utils.picture_files import read_image
from mmcity.utils.picture_names import output_names, picture_name
from mmcity.visualization import write_grey16

from .geometry_prior import GeometryPrior
from .streaming_reconstructor import StreamingReconstructor


class DepthEstimator(metaclass=ABCMeta):
    """Guesses inverse depth, of unknown scale and shift, from single pictures.

    A subclass says how for one picture; writing, and going on after an interruption, is here.

    Attributes:
        options: What its depths depend on besides the pictures, as plain values.
    """

    options: Mapping[str, Any] = MappingProxyType({})

    @abstractmethod
    def estimate(self, image: np.ndarray, path: Path) -> np.ndarray:
        """Inverse depth ``(H, W)``, larger is nearer, of a picture ``(H, W, 3)`` uint8."""

    def write(
        self,
        images: str | os.PathLike,
        depth_dir: str | os.PathLike,
        report: Callable[[int, int], None] | None = None,
    ) -> list[Path]:
        """Write 16-bit pictures of inverse depth, one per picture.

        Those that the same estimator has made of the same pictures are kept.

        Args:
            images: Folder; those of its sub-folders are taken too.
            depth_dir: Folder; sub-folders are as those of the pictures.
            report: Called with (done, total). Defaults to None.

        Returns:
            The files written now.

        Raises:
            UserError: If there are no pictures, or the folder holds depths that were made
                otherwise; or, once the others are done, if some failed.
        """
        root = Path(images)
        paths, written = list_images(root, recursive=True), []
        if not paths:
            raise UserError(f"{images}: expected pictures ({', '.join(IMAGE_SUFFIXES)}), got none")
        names = [picture_name(path.relative_to(root)) for path in paths]
        targets, failures = output_names(names, ".png"), ItemFailures("pictures")
        keep_made_alike(
            depth_dir,
            {"estimator": type(self).__name__, **self.options},
            {targets[name]: [path] for name, path in zip(names, paths)},
        )
        for number, (name, path) in enumerate(zip(names, paths), 1):
            target = Path(depth_dir) / targets[name]
            with failures.item(name):
                if not target.is_file():
                    self._write_one(path, target)
                    written.append(target)
            if report is not None:
                report(number, len(paths))
        failures.check()
        return written

    def _write_one(self, path: Path, target: Path) -> None:
        image = read_image(path)
        inverse = np.asarray(self.estimate(image, path), dtype=np.float64)
        if inverse.shape != image.shape[:2] or not np.isfinite(inverse).all():
            raise ValueError(
                f"{path}: expected finite inverse depth of {image.shape[:2]}, the estimator gave "
                f"{inverse.shape}, {np.isfinite(inverse).mean():.0%} of it finite"
            )
        # Scale and shift are unknown anyway; spread what there is over the levels.
        low, high = float(inverse.min()), float(inverse.max())
        write_grey16(target, (inverse - low) / max(high - low, 1e-12))


class DepthAnythingEstimator(DepthEstimator):
    """Depth Anything V2, or another depth model, through ``transformers``.

    Args:
        weights: Folder with the model's config, preprocessor and weights; nothing is
            downloaded.
        device: Defaults to ``cuda`` where there is one, else ``cpu``.
    """

    def __init__(self, weights: str | os.PathLike, device: str | None = None) -> None:
        if not Path(weights).is_dir():
            raise UserError(f"{weights}: expected the folder of a depth model of transformers")
        self.options = {"weights": file_digest(weights)}
        transformers = import_library("transformers", "estimator")
        self.processor = transformers.AutoImageProcessor.from_pretrained(
            weights, local_files_only=True
        )
        self.model = transformers.AutoModelForDepthEstimation.from_pretrained(
            weights, local_files_only=True
        )
        self.device = device_at_hand(device)
        self.model.to(self.device).eval()

    @torch.no_grad()
    def estimate(self, image: np.ndarray, path: Path) -> np.ndarray:
        """See the base class."""
        inputs = self.processor(images=image, return_tensors="pt").to(self.device)
        depth = self.model(**inputs).predicted_depth[:, None]  # (1, 1, h, w), larger is nearer
        size = image.shape[:2]
        depth = torch.nn.functional.interpolate(depth, size, mode="bicubic", align_corners=False)
        return depth[0, 0].cpu().numpy()


class ToytownDepthEstimator(DepthEstimator):
    """Stand-in of a network: the toy town's true depth with unknown scale, blur and noise.

    Args:
        scene: Folder of the toy town with ``gt/depths``.
        seed: Of the disturbance. Defaults to 0.
    """

    def __init__(self, scene: str | os.PathLike, seed: int = 0) -> None:
        self.folder = Path(scene) / "gt" / "depths"
        if not self.folder.is_dir():
            raise UserError(f"{self.folder}: expected the true depths of a toy town, found none")
        self.seed = seed
        self.options = {"seed": seed, "depths": file_digest(self.folder)}

    def estimate(self, image: np.ndarray, path: Path) -> np.ndarray:
        """See the base class."""
        depth = np.load(self.folder / f"{path.stem}.npy", allow_pickle=False)
        # Each picture has a stream of its own, whatever was done before.
        rng = np.random.default_rng([self.seed, *path.stem.encode()])
        return make_depth_prior(depth, rng)[0].astype(np.float64)


class StreamingDepthEstimator:
    """The streaming geometry model of this toolbox, over a folder in the order of its names.

    Args:
        config: Config of the model.
        checkpoint: Its weights.
        device: Defaults to ``cuda`` where there is one, else ``cpu``.
    """

    def __init__(
        self, config: str | os.PathLike, checkpoint: str | os.PathLike, device: str | None = None
    ) -> None:
        self.prior = GeometryPrior(
            StreamingReconstructor(config, checkpoint, device, resize="eval")
        )

    def write(
        self,
        images: str | os.PathLike,
        depth_dir: str | os.PathLike,
        report: Callable[[int, int], None] | None = None,
    ) -> list[Path]:
        """As :meth:`DepthEstimator.write`; all pictures at once, since each builds on others."""
        total = len(list_images(images))
        files = self.prior.write(images, depth_dir).depths
        if report is not None:
            report(total, total)
        return files
