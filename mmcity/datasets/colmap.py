"""COLMAP scenes: any capture, the CityGS-X layout, and relocalisation splits."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from mmcity.registry import DATASETS
from mmcity.utils.checks import check_choice
from mmcity.utils.fileio import read_json
from mmcity.utils.images import list_images
from mmcity.utils.picture_names import check_unique, find_companion, find_picture, match_names

from .io.colmap_model import (
    find_colmap_model,
    folders_of_scene,
    frame_of_model,
    is_model,
    read_colmap_model,
)
from .io.colmap_types import ColmapPoints
from .posed_images import PosedImage, PosedImagesDataset
from .splits import held_out

_IMAGE_DIRS = ("images", "train/rgbs", "rgbs", "input", ".")
_MASK_DIRS = ("masks", "mask", "train/mask", "train/masks")
_DEPTH_DIRS = ("depths", "depth", "train/depths", "train/depth")
#: Depth priors whose scale leaves this range about the median are wrong fits.
_SCALE_RANGE = (0.2, 5.0)


def read_depth_params(path: Path) -> dict[str, tuple[float, float]]:
    """Scale and offset of each image's inverse depth prior, by image name without suffix.

    Images whose scale is not above 0, not finite, or outside of 0.2 to 5 times the median of
    the positive scales are left out: their fit failed.

    Raises:
        ValueError: If the file is no JSON table of ``{name: {scale, offset}}``.
    """
    try:
        table = read_json(path)
        pairs = {
            name: (float(row["scale"] or 0), float(row["offset"] or 0))
            for name, row in table.items()
            if row is not None
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected JSON {{name: {{scale, offset}}}}, got {error!r}"
        ) from error
    return reliable_depth_params(pairs)


def reliable_depth_params(pairs: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """The pairs (scale, offset) whose scale is plausible; see :func:`read_depth_params`."""
    scales = [s for s, _ in pairs.values() if np.isfinite(s) and s > 0]
    if not scales:
        return {}
    low, high = (np.median(scales) * bound for bound in _SCALE_RANGE)
    return {
        name: (scale, offset)
        for name, (scale, offset) in pairs.items()
        if low <= scale <= high and np.isfinite(offset)
    }


@DATASETS.register_module()
class ColmapDataset(PosedImagesDataset):
    """Images posed by COLMAP.

    Args:
        data_root (str): Scene folder.
        sparse_dir (str): Model folder below it. Defaults to the first of ``sparse/0``,
            ``sparse``, ``colmap/sparse/0`` and the root that holds a model.
        image_dir (str): Folder that image names are relative to. Defaults to the first of
            ``images``, ``train/rgbs``, ``rgbs``, ``input`` and the root that holds the first
            image. A name is looked up as it stands, then by the end of it.
        split_by (str): ``auto``, ``tsv``, ``list``, ``val_folder``, ``every_n``, ``fraction``
            or ``none``
            (see :func:`~mmcity.datasets.splits.held_out`). Defaults to ``auto``.
        split_file (str, optional): File or folder that the rule reads.
        every_n (int): Defaults to 8.
        every_n_offset (int): Defaults to 0.
        train_fraction (float): Share of training images of ``split_by="fraction"``. Defaults
            to 1.
        train_skip (int): Keep every k-th training image (1-based number divisible by k).
        test_skip (int): Likewise for test images.
        mask_dir (str, optional): Folder of masks (nonzero: the pixel counts), ``auto`` to look
            for one. Defaults to None: no masks.
        depth_dir (str, optional): Folder of depth priors, or ``auto``. Defaults to None.
        depth_kind (str): ``inverse``: value / 65536, scaled per image by
            ``depth_params.json`` beside the model; ``metric``: value x ``depth_unit``.
        depth_unit (float): Metres per count of a metric map. Defaults to 0.001.
        min_track_length (int): Leave out points seen by fewer images. Defaults to 0.
        point_stride (int): Keep every k-th point. Defaults to 1.
        **kwargs: See :class:`PosedImagesDataset`.

    Attributes:
        points3D (ColmapPoints): Points with colours, errors and tracks.
        scene_extent (float): 1.1 times the radius of the training camera centres.
    """

    METAINFO = {"task": "scene_reconstruction"}

    def __init__(
        self,
        data_root: str | os.PathLike,
        *,
        sparse_dir: str = "auto",
        image_dir: str = "auto",
        split_by: str = "auto",
        split_file: str | None = None,
        every_n: int = 8,
        every_n_offset: int = 0,
        train_fraction: float = 1.0,
        train_skip: int = 1,
        test_skip: int = 1,
        mask_dir: str | None = None,
        depth_dir: str | None = None,
        depth_kind: str = "inverse",
        depth_unit: float = 0.001,
        min_track_length: int = 0,
        point_stride: int = 1,
        **kwargs,
    ) -> None:
        check_choice("depth_kind", depth_kind, ("inverse", "metric"))
        if min(train_skip, test_skip, point_stride) < 1:
            raise ValueError("train_skip, test_skip and point_stride: expected at least 1")
        self.sparse_dir, self.image_dir = sparse_dir, image_dir
        self.split_options = {
            "rule": split_by,
            "file": split_file,
            "every_n": every_n,
            "offset": every_n_offset,
            "fraction": train_fraction,
        }
        self.train_skip, self.test_skip = train_skip, test_skip
        self.mask_dir, self.depth_dir = mask_dir, depth_dir
        self.depth_kind, self.depth_unit = depth_kind, depth_unit
        self.min_track_length, self.point_stride = min_track_length, point_stride
        super().__init__(data_root, **kwargs)

    # ------------------------------------------------------------ reading

    def load_images(self) -> tuple[list[PosedImage], ColmapPoints]:
        """See :meth:`PosedImagesDataset.load_images`."""
        root = self.data_root
        folder = find_colmap_model(root) if self.sparse_dir == "auto" else root / self.sparse_dir
        if self.file_frame.is_identity:
            self.file_frame = frame_of_model(folder)
        model = read_colmap_model(folder, with_features=False, require_points=self.require_points)
        names = sorted(image.name for image in model.images.values())
        if not names:
            raise ValueError(f"{folder}: expected registered images, got none")
        image_dir = find_image_dir(root, names, self.image_dir)
        images = [
            PosedImage(
                name=image.name,
                path=find_picture(image_dir, image.name),
                camera=model.cameras[image.camera_id],
                viewmat=image.viewmat,
            )
            for image in model.images.values()
        ]
        check_unique({image.name: image.path for image in images}, "pixels")
        self._mention_extra(image_dir, images)
        self._attach_masks(images)
        self._attach_depths(images, folder)
        return images, model.points3D

    def assign_splits(self, images: list[PosedImage]) -> str:
        """See :meth:`PosedImagesDataset.assign_splits`."""
        names = [image.name for image in images]
        test, train, reason = held_out(names, self.data_root, **self.split_options)
        for part, flags, skip in (
            ("test", test, self.test_skip),
            ("train", train, self.train_skip),
        ):
            rows = [row for row, flag in enumerate(flags) if flag]
            kept = {row for number, row in enumerate(rows, 1) if number % skip == 0}
            for row, image in enumerate(images):
                setattr(image, f"is_{part}", row in kept)
        return reason

    def _mention_extra(self, folder: Path, images: list[PosedImage]) -> None:
        known = {image.path for image in images}
        parents = {path.parent for path in known if path.parent.is_dir()}
        extra = sorted(
            str(file.relative_to(folder))
            for parent in parents
            for file in list_images(parent)
            if file not in known
        )
        if extra:
            print_log(
                f"{folder}: {len(extra)} image files have no pose in the model and are not used, "
                f"e.g. {extra[:3]}",
                "current",
                30,
            )

    def _folder(self, given: str | None, choices: tuple[str, ...], what: str) -> Path | None:
        if given is None:
            return None
        if given != "auto":
            folder = self.data_root / given
            if not folder.is_dir():
                raise FileNotFoundError(f"{folder}: expected the folder of {what}, found none")
            return folder
        return next((self.data_root / c for c in choices if (self.data_root / c).is_dir()), None)

    def _attach_masks(self, images: list[PosedImage]) -> None:
        folder = self._folder(self.mask_dir, _MASK_DIRS, "masks")
        if folder is None:
            return
        paths = {image.name: find_companion(folder, image.name) for image in images}
        check_unique(paths, "the mask")
        for image in images:
            if paths[image.name] is not None:
                image.extra["mask_path"] = str(paths[image.name])
        self._mention_coverage(folder, images, "mask_path", "masks")

    def _attach_depths(self, images: list[PosedImage], model_folder: Path) -> None:
        folder = self._folder(self.depth_dir, _DEPTH_DIRS, "depth priors")
        if folder is None:
            return
        params = None
        if self.depth_kind == "inverse":
            table = self.load_depth_params(model_folder, folder)
            owners = match_names(table, [image.name for image in images], "depth_params.json")
            params = {owners[key]: pair for key, pair in table.items() if key in owners}
        paths = {image.name: find_companion(folder, image.name) for image in images}
        check_unique(paths, "the depth prior")
        for image in images:
            path = paths[image.name]
            if path is None or (params is not None and image.name not in params):
                continue
            values = {"depth_scale": self.depth_unit, "depth_offset": 0.0}
            if params is not None:
                scale, offset = params[image.name]
                values = {"depth_scale": scale / 65536, "depth_offset": offset}
            image.extra.update(depth_path=str(path), depth_kind=self.depth_kind, **values)
        self._mention_coverage(folder, images, "depth_path", "usable depth priors")

    def load_depth_params(
        self, model_folder: Path, depth_folder: Path
    ) -> dict[str, tuple[float, float]]:
        """Scale and offset of the depth priors, by image name without suffix."""
        path = model_folder / "depth_params.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: expected scale and offset of the depth priors, found none: "
                "fit them first (mmcity data fit-depth-scale), or set depth_kind='metric'"
            )
        return read_depth_params(path)

    def _mention_coverage(self, folder: Path, images, key: str, what: str) -> None:
        count = sum(key in image.extra for image in images)
        if count == 0:
            raise FileNotFoundError(
                f"{folder}: expected {what} named like the images ({images[0].name!r}), found none"
            )
        if count < len(images):
            print_log(f"{folder}: {count} of {len(images)} images have {what}", "current")

    def choose_points(self, points: ColmapPoints) -> ColmapPoints:
        """See :meth:`PosedImagesDataset.choose_points`."""
        keep = points.track_lengths >= self.min_track_length
        if len(points) and not keep.any():
            raise ValueError(
                f"{self.data_root}: expected some of {len(points)} points within "
                f"min_track_length={self.min_track_length}, got none"
            )
        return points[np.flatnonzero(keep)[:: self.point_stride]]


def find_image_dir(
    root: Path, names: Sequence[str], image_dir: str = "auto", remedy: str = "set image_dir"
) -> Path:
    """Folder that the image names of a model are relative to.

    Args:
        root (Path): Scene folder, or that of the model in it.
        names (Sequence[str]): Image names of the model.
        image_dir (str): Folder below the root, or ``auto`` for the first of the usual ones
            that holds an image of the model.
        remedy (str): What the error tells to do. Defaults to ``set image_dir``.

    Raises:
        FileNotFoundError: If there is none.
    """
    if image_dir != "auto":
        if not (root / image_dir).is_dir():
            raise FileNotFoundError(f"{root / image_dir}: expected the images folder, found none")
        return root / image_dir
    # Several names are tried, so that one missing image does not decide.
    around = folders_of_scene(root) if is_model(root) else [root]
    places = [place / choice for place in around for choice in _IMAGE_DIRS]
    for name in names[:: max(len(names) // 16, 1)]:
        for folder in places:
            if find_picture(folder, name).is_file():
                return folder
    raise FileNotFoundError(
        f"{root}: expected the image {names[0]!r} in one of {', '.join(_IMAGE_DIRS)}, found it "
        f"in none: {remedy}"
    )
