"""Geometry of the streaming model for other systems: depth priors, poses, first points."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from mmcity.datasets.io.colmap_model import write_colmap_model
from mmcity.datasets.io.colmap_types import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints
from mmcity.structures.geometry import rotmat_to_quat, se3_inverse
from mmcity.utils.fileio import atomic_path
from mmcity.visualization.point_cloud import select_points

from .frame_sources import Frame, SourceError, open_source
from .streaming_reconstructor import StreamingReconstructor

__all__ = ["GeometryPrior", "PriorFiles"]

INVERSE_DEPTH_LEVELS = 65535


@dataclass
class PriorFiles:
    """What was written.

    Attributes:
        depths: One 16-bit picture of inverse depth per image.
        sparse: Folder of the COLMAP model, None if none was asked for.
        inverse_depth_unit: Inverse depth of one grey level, in the model's world.
    """

    depths: list[Path] = field(default_factory=list)
    sparse: Path | None = None
    inverse_depth_unit: float = 0.0


class GeometryPrior:
    """Writes priors for per-scene reconstruction from unposed images.

    Args:
        reconstructor: A streaming reconstructor with ``resize='eval'``, which maps every
            pixel of the image.
        min_depth: Nearer depths saturate the inverse-depth pictures, in units of the
            network. Defaults to 0.02.
    """

    def __init__(self, reconstructor: StreamingReconstructor, min_depth: float = 0.02) -> None:
        if reconstructor.resize != "eval":
            raise ValueError(
                f"expected a reconstructor with resize='eval', got {reconstructor.resize!r}"
            )
        self.reconstructor = reconstructor
        self.min_depth = min_depth

    def write(
        self,
        images: str | os.PathLike,
        depth_dir: str | os.PathLike | None = None,
        sparse_dir: str | os.PathLike | None = None,
        max_points: int = 100_000,
        percentile: float = 50.0,
        seed: int = 0,
    ) -> PriorFiles:
        """Run over a folder of images, in the order of their names.

        Args:
            images: Folder.
            depth_dir: Where inverse-depth pictures go, at the size of the images (the depth
                priors that CityGS-X scales to its sparse points). None writes none.
            sparse_dir: Where a COLMAP model with cameras and points goes. None writes none.
            max_points: Points of the model, a random sample. Defaults to 100,000.
            percentile: Points below this percentile of confidence are left out.
                Defaults to 50.
            seed: Of the sample. Defaults to 0.
        """
        folder = Path(images)
        if not folder.is_dir():
            raise SourceError(f"{folder}: expected a folder of images")
        names = {f.stem: f.name for f in folder.iterdir()}
        sizes: list[tuple[int, int]] = []

        def watched() -> Iterable[Frame]:
            for frame in open_source(folder):
                sizes.append(frame.image.shape[:2])
                yield frame

        rng = np.random.default_rng(seed)
        files = PriorFiles(inverse_depth_unit=1 / (self.min_depth * INVERSE_DEPTH_LEVELS))
        cameras, views, clouds = {}, {}, []
        for number, result in enumerate(self.reconstructor(watched()), start=1):
            height, width = sizes[-1]
            if depth_dir is not None:
                target = Path(depth_dir) / f"{result.name}.png"
                self._write_inverse_depth(target, result.depth, (width, height))
                files.depths.append(target)
            scale = np.array([width / result.depth.shape[1], height / result.depth.shape[0]])
            focal = result.K[[0, 1], [0, 1]] * scale
            centre = (result.K[:2, 2] + 0.5) * scale  # COLMAP counts from pixel corners
            cameras[number] = ColmapCamera(number, "PINHOLE", width, height, [*focal, *centre])
            viewmat = np.asarray(se3_inverse(result.cam_to_world))
            quat = np.asarray(rotmat_to_quat(viewmat[:3, :3]))
            views[number] = ColmapImage(
                number, quat, viewmat[:3, 3], number, names.get(result.name, result.name)
            )
            clouds.append(self._sample(result, max_points, percentile, rng))
        if sparse_dir is not None:
            rows = np.concatenate(clouds)
            rows = rows[rng.permutation(len(rows))[:max_points]]
            points = ColmapPoints.from_arrays(rows[:, :3], rows[:, 3:].astype(np.uint8))
            write_colmap_model(ColmapModel(cameras, views, points), sparse_dir)
            files.sparse = Path(sparse_dir)
        return files

    def _write_inverse_depth(self, path: Path, depth: np.ndarray, size: tuple[int, int]) -> None:
        inverse = self.min_depth / np.maximum(depth, self.min_depth)  # (0, 1]
        picture = Image.fromarray(inverse.astype(np.float32)).resize(
            size, Image.Resampling.BILINEAR
        )
        levels = np.round(np.asarray(picture) * INVERSE_DEPTH_LEVELS).astype(np.uint16)
        with atomic_path(path) as temporary:
            Image.fromarray(levels).save(temporary)

    @staticmethod
    def _sample(result, max_points: int, percentile: float, rng) -> np.ndarray:
        """Some confident points of a frame with their colours, ``(N, 6)``."""
        colors = result.image.reshape(-1, 3)
        kept = np.flatnonzero(select_points(result.points_conf.ravel(), colors, percentile))
        kept = rng.permutation(kept)[:max_points]
        return np.concatenate([result.points.reshape(-1, 3)[kept], colors[kept]], axis=1)
