"""Localisation benchmarks in their own layouts: Cambridge Landmarks and 7-Scenes."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmcity.registry import DATASETS
from mmcity.structures.geometry import se3_inverse
from mmcity.utils.checks import count_pairs
from mmcity.utils.fileio import read_text, visible
from mmcity.utils.images import list_images
from mmcity.utils.picture_files import image_size
from mmcity.utils.picture_names import natural_order

from .io.colmap_types import ColmapCamera, ColmapPoints
from .posed_images import PosedImage, PosedImagesDataset


def read_pose_text(path: str | os.PathLike) -> np.ndarray:
    """World-to-camera ``(4, 4)`` of a text file with a camera-to-world matrix.

    Raises:
        ValueError: If the file holds no rigid 4x4 matrix.
    """
    try:
        pose = np.array(read_text(path).split(), dtype=np.float64)
        pose = pose.reshape(4, 4)
    except ValueError as error:
        raise ValueError(f"{path}: expected 16 numbers of a camera-to-world matrix") from error
    rotation = pose[:3, :3]
    if not np.isfinite(pose).all() or np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-2:
        raise ValueError(f"{path}: expected a rigid camera-to-world matrix, got {pose.tolist()}")
    # Text keeps few digits: the nearest rotation.
    u, _, vt = np.linalg.svd(rotation)
    pose[:3, :3] = u @ vt
    return se3_inverse(pose)


class _PoseFileDataset(PosedImagesDataset):
    """Images with one pose file each, one focal length, and splits by folder.

    Args:
        data_root (str): Scene folder.
        focal (float): px, of the files as they are; the principal point is the centre.
        train_skip (int): Keep every k-th training image, from the first. Defaults to 1.
        test_skip (int): Likewise. Defaults to 1.
        **kwargs: See :class:`PosedImagesDataset`. ``require_points`` defaults to False.
    """

    METAINFO = {"task": "localization"}

    def __init__(
        self,
        data_root: str | os.PathLike,
        focal: float,
        train_skip: int = 1,
        test_skip: int = 1,
        **kwargs,
    ) -> None:
        if min(train_skip, test_skip) < 1 or not focal > 0:
            raise ValueError("focal, train_skip and test_skip: expected numbers above 0")
        self.focal, self.train_skip, self.test_skip = focal, train_skip, test_skip
        super().__init__(data_root, **{"require_points": False, **kwargs})

    def _every(
        self, pairs: Sequence[tuple[Path, Path]], skip: int, is_test: bool
    ) -> list[PosedImage]:
        """Every ``skip``-th of images with their pose files; the others are skipped."""
        rest = (pair for row, pair in enumerate(pairs) if row % skip)
        self.skipped += [read_pose_text(pose_path) for _, pose_path in rest]
        return [self._posed(*pair, is_test) for pair in pairs[::skip]]

    def _posed(self, path: Path, pose_path: Path, is_test: bool) -> PosedImage:
        width, height = image_size(path)
        K = [[self.focal, 0, width / 2], [0, self.focal, height / 2], [0, 0, 1]]
        return PosedImage(
            name=path.relative_to(self.data_root).as_posix(),
            path=path,
            camera=ColmapCamera.pinhole(1, width, height, K),
            viewmat=read_pose_text(pose_path),
            is_test=is_test,
            is_train=not is_test,
        )

    def assign_splits(self, images: list[PosedImage]) -> str:
        """Folders have decided already."""
        return "by the lists of the benchmark"


@DATASETS.register_module()
class CambridgeLandmarks(_PoseFileDataset):
    """Cambridge Landmarks (Kendall et al., 2015) as prepared for pose regression.

    ``{train,test}/rgb/*`` and ``{train,test}/poses/*.txt``, paired in sorted order.

    Args:
        data_root (str): Scene folder.
        focal (float): px at the size of the files. Defaults to 744 (short side 480).
        exclude_train (list[int], optional): Sorted numbers of broken training frames, counted
            before ``train_skip`` (35 and 42 of ShopFacade).
        **kwargs: See :class:`PosedImagesDataset`; also ``train_skip``, ``test_skip``.
    """

    def __init__(
        self,
        data_root: str | os.PathLike,
        focal: float = 744.0,
        exclude_train: list[int] | None = None,
        **kwargs,
    ) -> None:
        self.exclude_train = set(exclude_train or [])
        super().__init__(data_root, focal, **kwargs)

    def load_images(self) -> tuple[list[PosedImage], ColmapPoints]:
        """See :meth:`PosedImagesDataset.load_images`."""
        images = []
        for split, skip in (("train", self.train_skip), ("test", self.test_skip)):
            folder = self.data_root / split
            if not (folder / "rgb").is_dir():
                raise FileNotFoundError(f"{folder / 'rgb'}: expected a folder of images")
            files = list_images(folder / "rgb")
            poses = visible(sorted((folder / "poses").glob("*.txt")))
            count_pairs(folder, images=files, poses=poses)
            pairs = list(zip(files, poses))
            if split == "train":
                pairs = [p for row, p in enumerate(pairs) if row not in self.exclude_train]
            images += self._every(pairs, skip, split == "test")
        return images, ColmapPoints.empty()


@DATASETS.register_module()
class SevenScenes(_PoseFileDataset):
    """7-Scenes (Shotton et al., 2013) with the poses of its own depth SLAM.

    ``TrainSplit.txt`` and ``TestSplit.txt`` list ``sequenceN``; ``seq-NN`` holds
    ``frame-XXXXXX.color.png`` and ``frame-XXXXXX.pose.txt``. Scenes with the structure-from-
    motion poses that papers report on are COLMAP scenes.

    Args:
        data_root (str): Scene folder.
        focal (float): px. Defaults to 525.
        **kwargs: See :class:`PosedImagesDataset`; also ``train_skip`` and ``test_skip``, which
            count within a sequence.
    """

    def __init__(self, data_root: str | os.PathLike, focal: float = 525.0, **kwargs) -> None:
        super().__init__(data_root, focal, **kwargs)

    def _sequences(self, file: str) -> list[Path]:
        path = self.data_root / file
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected a list of sequences (lines 'sequenceN')")
        numbers = re.findall(r"sequence\s*(\d+)", read_text(path))
        if not numbers:
            raise ValueError(f"{path}: expected lines 'sequenceN', found none")
        folders = [self.data_root / f"seq-{int(number):02d}" for number in numbers]
        for folder in folders:
            if not folder.is_dir():
                raise FileNotFoundError(f"{folder}: {path.name} names it, expected a folder")
        return folders

    def load_images(self) -> tuple[list[PosedImage], ColmapPoints]:
        """See :meth:`PosedImagesDataset.load_images`."""
        images = []
        for file, skip in (("TrainSplit.txt", self.train_skip), ("TestSplit.txt", self.test_skip)):
            for folder in self._sequences(file):
                files = natural_order(folder.glob("frame-*.color.png"))
                pairs = [
                    (path, path.with_name(path.name.replace(".color.png", ".pose.txt")))
                    for path in files
                ]
                images += self._every(pairs, skip, file == "TestSplit.txt")
        return images, ColmapPoints.empty()
