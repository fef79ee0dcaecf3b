"""Geometry of the streaming model for other systems: depth priors, poses, first points."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from mmcity.datasets.frame_sources import Frame, SourceError, open_source
from mmcity.datasets.io.colmap_model import write_colmap_model
from mmcity.datasets.io.colmap_types import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints
from mmcity.structures.geometry import rotmat_to_quat, se3_inverse
from mmcity.utils.images import list_images
from mmcity.utils.picture_names import output_names
from mmcity.visualization import LEVELS, write_grey16
from mmcity.visualization.point_cloud import select_points

from .streaming_reconstructor import StreamingReconstructor


@dataclass
class PriorFiles:
    """Files of a prior.

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
            sparse_dir: Where a COLMAP model with cameras and points goes; every point is
                observed in the image it comes from, so that depth scales can be fitted to
                it. None writes none.
            max_points: Points of the model, a random sample. Defaults to 100,000.
            percentile: Points below this percentile of confidence are left out.
                Defaults to 50.
            seed: Of the sample. Defaults to 0.
        """
        folder = Path(images)
        if not folder.is_dir():
            raise SourceError(f"{folder}: expected a folder of images")
        stems = output_names([file.name for file in list_images(folder)], "")
        names = {stem: name for name, stem in stems.items()}
        sizes: list[tuple[int, int]] = []

        def watched() -> Iterable[Frame]:
            for frame in open_source(folder, upright=False):
                sizes.append(frame.image.shape[:2])
                yield frame

        rng = np.random.default_rng(seed)
        files = PriorFiles(inverse_depth_unit=1 / (self.min_depth * LEVELS))
        cameras, views = {}, {}
        kept = np.empty((0, 10))
        try:
            for number, result in enumerate(self.reconstructor(watched()), start=1):
                height, width = sizes[-1]
                if depth_dir is not None:
                    target = Path(depth_dir) / f"{result.name}.png"
                    self._write_inverse_depth(target, result.depth, (width, height))
                    files.depths.append(target)
                scale = np.array([width / result.depth.shape[1], height / result.depth.shape[0]])
                focal, centre = result.K[[0, 1], [0, 1]] * scale, result.K[:2, 2] * scale
                cameras[number] = ColmapCamera(number, "PINHOLE", width, height, [*focal, *centre])
                viewmat = np.asarray(se3_inverse(result.cam_to_world))
                quat = np.asarray(rotmat_to_quat(viewmat[:3, :3]))
                name = names.get(result.name, result.name)
                views[number] = ColmapImage(number, quat, viewmat[:3, 3], number, name)
                kept = np.concatenate(
                    [kept, self._candidates(result, number, scale, percentile, rng)]
                )
                if len(kept) > max_points:  # the smallest keys: a uniform sample of the stream
                    kept = kept[np.argpartition(kept[:, 0], max_points)[:max_points]]
        finally:  # also what a run with broken pictures, or an interrupted one, has found
            if sparse_dir is not None and views:
                model = ColmapModel(cameras, views, self._as_points(kept, views))
                write_colmap_model(model, sparse_dir)
                files.sparse = Path(sparse_dir)
        return files

    @staticmethod
    def _as_points(rows: np.ndarray, views: dict[int, ColmapImage]) -> ColmapPoints:
        """Points seen in one image each; the observations are put into the images."""
        owner = rows[:, 1].astype(int)
        rows = rows[np.argsort(owner, kind="stable")]
        owner = np.sort(owner)
        ids = np.arange(1, len(rows) + 1)
        slots = np.zeros(len(rows), dtype=int)
        for number, view in views.items():
            mine = owner == number
            view.xys, view.point3D_ids = rows[mine, 8:], ids[mine]
            slots[mine] = np.arange(mine.sum())
        return ColmapPoints.from_arrays(
            rows[:, 2:5],
            rows[:, 5:8].astype(np.uint8),
            ids=ids,
            track_lengths=np.ones(len(rows), dtype=int),
            tracks=np.stack([owner, slots], axis=1),
        )

    def _write_inverse_depth(self, path: Path, depth: np.ndarray, size: tuple[int, int]) -> None:
        inverse = self.min_depth / np.maximum(depth, self.min_depth)  # (0, 1]
        picture = Image.fromarray(inverse.astype(np.float32)).resize(
            size, Image.Resampling.BILINEAR
        )
        write_grey16(path, np.asarray(picture))

    @staticmethod
    def _candidates(result, number: int, scale: np.ndarray, percentile: float, rng) -> np.ndarray:
        """Confident points of a frame: key, image, x, y, z, r, g, b, u, v; ``(N, 10)``."""
        height, width = result.depth.shape
        colors = result.image.reshape(-1, 3)
        kept = np.flatnonzero(select_points(result.points_conf.ravel(), colors, percentile))
        v, u = np.divmod(kept, width)
        columns = [
            rng.random((len(kept), 1)),
            np.full((len(kept), 1), number),
            result.points.reshape(-1, 3)[kept],
            colors[kept],
            (np.stack([u, v], axis=1) + 0.5) * scale,
        ]
        return np.concatenate(columns, axis=1)
