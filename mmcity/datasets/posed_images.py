"""Images with known cameras: what COLMAP and Nerfstudio scenes have in common."""

import os
import sys
from abc import ABCMeta, abstractmethod
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.dist import broadcast_object_list, get_dist_info
from mmengine.logging import print_log
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from mmcity.registry import TRANSFORMS
from mmcity.structures import Cameras, SceneFrame, read_frame
from mmcity.structures.world_offset import world_offset
from mmcity.utils.checks import check_choice
from mmcity.utils.images import list_images
from mmcity.utils.picture_files import image_size
from mmcity.utils.picture_names import names_below, picture_name, without_suffix

from .image_cache import ByteLRUCache
from .io.colmap_types import CAMERA_MODELS, ColmapCamera, ColmapPoints
from .splits import SPLITS

STORAGES = ("replicated", "first_rank", "sharded")


@dataclass
class PosedImage:
    """One image of a scene, before it is loaded.

    Attributes:
        name (str): Relative name in the scene's own files, with forward slashes; images are
            sorted by it. Datasets shorten names that lead out of the scene's folder.
        path (Path): The file.
        camera (ColmapCamera): Intrinsics and distortion; at the size of the file once the
            dataset has looked at it.
        viewmat (np.ndarray): ``(4, 4)`` float64 world to camera.
        extra (dict): Further results for the pipeline, such as ``mask_path``.
        is_test (bool): Whether it is held out.
        is_train (bool): Whether it is trained on.
    """

    name: str
    path: Path
    camera: ColmapCamera
    viewmat: np.ndarray
    extra: dict = field(default_factory=dict)
    is_test: bool = False
    is_train: bool = True


class PosedImagesDataset(Dataset, metaclass=ABCMeta):
    """Base of datasets that give one posed image per item.

    A subclass lists its images in :meth:`load_images`; everything else is here: splits,
    missing files, sizes, distortion, resizing, caching, and where the scene lies: far from the
    origin (:func:`~mmcity.structures.world_offset.world_offset`), ``offset`` is subtracted in
    double precision from what the files say, for all splits alike. An item is
    ``dict(inputs=dict(img=.., mask=.., ..), data_samples=SceneDataSample)`` (see
    :class:`~mmcity.datasets.transforms.PackSceneInputs`).

    Args:
        data_root (str): Scene folder.
        split (str): ``train``, ``test`` (or ``val``, the same images) or ``all``. Defaults to
            ``train``.
        selection_every (int): Keep every so many-th training image out of ``train``, as the
            split ``selection``, so that models are not chosen on test images. Defaults to 0:
            none.
        resize (dict, optional): Arguments of ``ResizePosedImage``, such as
            ``dict(long_side=480)``, ``dict(factor=4)`` or ``dict(resolution=-1)``. Defaults
            to the size of the files.
        undistort (bool): Remove lens distortion on load; without it, distorted cameras are
            refused. Defaults to False.
        alpha (str): What an alpha channel means: ``drop``, ``mask``, ``white``, ``black``.
        missing_images (str): ``error``, or ``skip`` with a warning, when image files of the
            scene do not exist. Defaults to ``error``.
        require_points (bool): Refuse a scene without 3D points. Defaults to True.
        cache_bytes (float): Bound of the cache of decoded, resized pictures, per process.
            Defaults to 2e9; 0 keeps nothing.
        storage (str): Who reads and keeps pictures when several processes use the dataset:
            ``replicated``, every process for itself; ``first_rank``, the first process of all,
            which sends them to the others; ``sharded``, process i those of every i-th row, and
            sends them. The latter two need all processes to ask for the same views at the same
            time (``CameraSampler(shard=False)``, no workers). Defaults to ``replicated``.
        preload (bool): Fill the cache at once, with a progress bar. Defaults to False.
        pipeline (Sequence[dict], optional): Transforms after the cached ones; they may be
            random. Defaults to ``[dict(type='PackSceneInputs')]``.
        load_pipeline (Sequence[dict], optional): Transforms whose results are cached; replaces
            loading, undistortion and resizing as given above.
        indices (int | Sequence[int], optional): Take only the first so many, or these, images
            of the split.

    Attributes:
        file_frame (SceneFrame): From the coordinates of the files to the world, which
            ``frame.json`` in the scene folder tells.
        offset (np.ndarray): ``(3,)`` float64, coordinates of the files less those of the scene.
        frame (SceneFrame): From the scene to the world.
    """

    METAINFO: dict = {}

    def __init__(
        self,
        data_root: str | os.PathLike,
        split: str = "train",
        resize: dict | None = None,
        undistort: bool = False,
        alpha: str = "drop",
        missing_images: str = "error",
        require_points: bool = True,
        cache_bytes: float = 2e9,
        storage: str = "replicated",
        preload: bool = False,
        pipeline: Sequence[dict] | None = None,
        load_pipeline: Sequence[dict] | None = None,
        indices: int | Sequence[int] | None = None,
        selection_every: int = 0,
        metainfo: dict | None = None,
    ) -> None:
        check_choice("split", split, SPLITS)
        check_choice("missing_images", missing_images, ("error", "skip"))
        check_choice("storage", storage, STORAGES)
        self.storage = storage
        self.data_root = Path(data_root)
        if not self.data_root.is_dir():
            raise FileNotFoundError(
                f"{self.data_root}: expected a scene folder, found none: set "
                "data_root to the folder that holds the images and the poses"
            )
        if selection_every < 0 or selection_every == 1:
            raise ValueError(f"selection_every: expected 0, or 2 and more, got {selection_every}")
        if split == "selection" and not selection_every:
            raise ValueError("selection_every: expected for the split 'selection', got none")
        self.split, self.selection_every = split, selection_every
        self.undistort = undistort
        self.missing_images = missing_images
        self.require_points = require_points
        self.cache = ByteLRUCache(int(cache_bytes))
        if load_pipeline is None:
            load_pipeline = [dict(type="LoadPosedImage", alpha=alpha)]
            load_pipeline += [dict(type="UndistortPosedImage")] if undistort else []
            load_pipeline += [dict(type="ResizePosedImage", **(resize or {}))]
        self._loaders = [TRANSFORMS.build(cfg) for cfg in load_pipeline]
        packers = [dict(type="PackSceneInputs")] if pipeline is None else pipeline
        self.pipeline = Compose([TRANSFORMS.build(cfg) for cfg in packers])

        self.file_frame = read_frame(self.data_root) or SceneFrame()
        self.offset = np.zeros(3)
        self.skipped: list[np.ndarray] = []
        images, self.points3D = self.load_images()
        names = names_below([picture_name(image.name) for image in images], self.data_root)
        for image, name in zip(images, names):
            image.name = name
        twins = [name for name, count in Counter(i.name for i in images).items() if count > 1]
        if twins:
            raise ValueError(f"{self.data_root}: expected names of one image each, got {twins[:3]}")
        self._center(images)
        self.points3D = self.choose_points(self.points3D)
        self.images = self._usable(sorted(images, key=lambda image: image.name))
        self._split(self.images)
        self.all_cameras = self._final_cameras(self.images)
        is_train = np.array([image.is_train for image in self.images])
        self._rows = self._rows_of_split(indices)
        self.cameras = self.all_cameras[torch.from_numpy(self._rows)]
        train_cameras = self.all_cameras[torch.from_numpy(is_train)]
        self.scene_extent = train_cameras.scene_extent() if len(train_cameras) else 0.0
        if require_points and not len(self.points3D):
            raise ValueError(
                f"{self.data_root}: expected 3D points, got none: triangulate the "
                "scene, or set require_points=False and choose a start without points"
            )
        self._metainfo = {
            "dataset_type": type(self).__name__,
            "scene": self.data_root.name,
            "split": split,
            "scene_extent": self.scene_extent,
            **self.METAINFO,
            **(metainfo or {}),
        }
        if preload:
            self.preload()

    # ------------------------------------------------------------ for subclasses

    @abstractmethod
    def load_images(self) -> tuple[list[PosedImage], ColmapPoints]:
        """All images of the scene with poses, and its points.

        The poses of those that an option leaves out go to ``skipped``, so that where the scene
        lies does not depend on it.
        """

    def choose_points(self, points: ColmapPoints) -> ColmapPoints:
        """Points that an option takes of all. Defaults to all."""
        return points

    @abstractmethod
    def assign_splits(self, images: list[PosedImage]) -> str:
        """Set ``is_test`` and ``is_train`` of images sorted by name; say what decided."""

    # ------------------------------------------------------------ where the scene lies

    @property
    def frame(self) -> SceneFrame:
        """See the class."""
        return self.file_frame.shifted(self.offset)

    def express_in(self, frame: SceneFrame) -> None:
        """Give the scene in the frame of a model that was made from it.

        Raises:
            ValueError: If that is another one by more than a shift.
        """
        try:
            offset = self.file_frame.shift_to(frame)
        except ValueError as error:
            raise ValueError(f"{self.data_root}: {error}") from error
        if (offset == self.offset).all():
            return
        self._shift(self.images, offset - self.offset)
        self.offset = offset
        self.all_cameras = self._final_cameras(self.images)
        self.cameras = self.all_cameras[torch.from_numpy(self._rows)]

    def _center(self, images: list[PosedImage]) -> None:
        """Move what was read to where single precision serves it."""
        if not images:
            return
        viewmats = [*(image.viewmat for image in images), *self.skipped]
        centers = np.stack([-pose[:3, :3].T @ pose[:3, 3] for pose in viewmats])
        self.offset, away = world_offset(centers, self.points3D.xyz)
        if self.offset.any():
            shown = ", ".join(f"{number:.10g}" for number in self.offset)
            print_log(
                f"{self.data_root}: the scene lies {away:.3g} times its size from the origin; "
                f"inside, all coordinates are less ({shown}), and results carry that offset",
                "current",
            )
        self._shift(images, self.offset)

    def _shift(self, images: list[PosedImage], by: np.ndarray) -> None:
        if not by.any():
            return
        for image in images:
            image.viewmat = image.viewmat.copy()
            image.viewmat[:3, 3] += image.viewmat[:3, :3] @ by
        self.points3D.xyz = self.points3D.xyz - by

    # ------------------------------------------------------------ set-up

    def _usable(self, images: list[PosedImage]) -> list[PosedImage]:
        if not images:
            raise ValueError(f"{self.data_root}: expected images with poses, got none")
        missing = [image for image in images if not image.path.is_file()]
        if missing:
            named = ", ".join(str(image.path) for image in missing[:3])
            what = f"{len(missing)} of {len(images)} image files do not exist: {named}"
            if self.missing_images == "error" or len(missing) == len(images):
                folder = ", set image_dir" if hasattr(self, "image_dir") else ""
                raise FileNotFoundError(
                    f"{self.data_root}: expected all images, but {what}{_alike(missing[0].path)}: "
                    f"complete the folder{folder}, or leave such images out with "
                    "missing_images='skip'"
                )
            print_log(f"{self.data_root}: {what}; they are left out", "current", 30)
            lost = {id(image) for image in missing}
            images = [image for image in images if id(image) not in lost]
        with ThreadPoolExecutor(8) as pool:
            sizes = list(pool.map(lambda image: image_size(image.path), images))
        for image, (width, height) in zip(images, sizes):
            image.camera = _camera_at(image.camera, width, height, image.path)
            if not image.camera.is_pinhole and not self.undistort:
                raise ValueError(
                    f"{self.data_root}: image {image.name!r} has a {image.camera.model} camera "
                    f"with distortion {image.camera.params.tolist()}; expected PINHOLE pictures: "
                    "undistort them with `colmap image_undistorter`, or set "
                    "undistort=True to do it on load"
                )
        return images

    def _split(self, images: list[PosedImage]) -> None:
        reason = self.assign_splits(images)
        test = sum(image.is_test for image in images)
        train = sum(image.is_train for image in images)
        print_log(
            f"{self.data_root.name}: {len(images)} images, {train} train, {test} test "
            f"({reason}), {len(self.points3D)} points",
            "current",
        )

    def _rows_of_split(self, indices) -> np.ndarray:
        trained = np.flatnonzero([image.is_train for image in self.images])
        selects = np.zeros(len(trained), bool)
        if self.selection_every:
            selects[self.selection_every // 2 :: self.selection_every] = True
        rows = {
            "all": np.arange(len(self.images)),
            "train": trained[~selects],
            "selection": trained[selects],
        }.get(self.split, np.flatnonzero([image.is_test for image in self.images]))
        if isinstance(indices, int):
            rows = rows[:indices]
        elif indices is not None:
            rows = rows[np.asarray(indices, dtype=np.int64)]
        if not len(rows):
            raise ValueError(
                f"{self.data_root}: expected some of the {len(self.images)} images in the split "
                f"{self.split!r}, got none: choose another rule with split_by"
            )
        return rows

    def _results(self, row: int) -> dict:
        image = self.images[row]
        camera = image.camera
        return {
            "img_path": str(image.path),
            "img_name": image.name,
            "camera_index": row,
            "ori_shape": (camera.height, camera.width),
            "colmap_camera": camera,
            "camera": Cameras(
                torch.from_numpy(camera.K)[None],
                torch.from_numpy(image.viewmat)[None],
                camera.width,
                camera.height,
                validate=False,
            ),
            **image.extra,
        }

    def _final_cameras(self, images: list[PosedImage]) -> Cameras:
        """Cameras after undistortion and resizing, without reading a picture."""
        out = []
        for row in range(len(images)):
            results = self._results(row)
            for loader in self._loaders:
                if hasattr(loader, "update_camera"):
                    results = loader.update_camera(results)
            out.append(results["camera"])
        cameras = Cameras.cat(out)
        try:
            cameras.check()
        except ValueError as error:
            raise ValueError(f"{self.data_root}: {error}") from error
        return cameras.to(torch.float32)

    # ------------------------------------------------------------ use

    @property
    def metainfo(self) -> dict:
        """Name, split and extent of the scene."""
        return dict(self._metainfo)

    @property
    def img_names(self) -> list[str]:
        """Names of the images of the split."""
        return [self.images[row].name for row in self._rows]

    @property
    def is_train(self) -> Tensor:
        """``(n_images,)`` bool over all images of the scene: trained on."""
        return torch.tensor([image.is_train for image in self.images])

    def full_init(self) -> None:
        """Nothing is left to do; mmengine calls it."""

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict:
        results = dict(self.load(int(index)))
        results.update(index=int(index), split=self.split)
        if self.offset.any():
            results["frame"] = self.frame
        return self.pipeline(results)

    def load(self, index: int) -> dict:
        """Results of the cached transforms for one image; treat the arrays as read-only.

        Raises:
            ImageReadError: If the file does not decode.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"image: expected an index below {len(self)}, got {index}")
        row = int(self._rows[index])
        rank, size = get_dist_info()
        if self.storage == "replicated" or size == 1:
            return self._read(row)
        keeper = row % size if self.storage == "sharded" else 0
        # Only arrays and plain values: the camera is known to every process.
        box = [None]
        if rank == keeper:
            box = [{key: value for key, value in self._read(row).items() if key != "camera"}]
        broadcast_object_list(box, src=keeper)
        return {**box[0], "camera": self.all_cameras[row]}

    def _read(self, row: int) -> dict:
        """From this process's cache or the disk."""
        results = self.cache.get(row)
        if results is None:
            results = self._results(row)
            for loader in self._loaders:
                results = loader(results)
            self.cache.put(row, results)
        return {**results, "camera": self.all_cameras[row]}  # the scene may have moved since

    def preload(self, threads: int = 4) -> None:
        """Load the split into the cache until it is full."""
        rank, size = get_dist_info()
        rows = [int(row) for row in self._rows]
        if size > 1 and self.storage != "replicated":
            rows = [r for r in rows if (r % size if self.storage == "sharded" else 0) == rank]
        if not rows:
            return
        first = ByteLRUCache.size_of(self._read(rows[0]))
        fitting = min(len(rows), self.cache.max_bytes // max(first, 1))
        if fitting < len(rows):
            print_log(
                f"{self.data_root}: about {fitting} of {len(rows)} images fit into the cache of "
                f"{self.cache.max_bytes / 1e9:.1f} GB (all need about "
                f"{first * len(rows) / 1e9:.1f} GB); the others are read when needed: "
                "raise cache_bytes, or lower the resolution",
                "current",
                30,
            )
        with ThreadPoolExecutor(threads) as pool:
            done = pool.map(self._read, rows[:fitting])
            quiet = not sys.stdout.isatty()
            for _ in track(done, "Reading images", total=fitting, disable=quiet, transient=True):
                pass


def _alike(path: Path) -> str:
    """A file that is there under a name in other letters, or of another kind; for messages."""
    if not path.parent.is_dir():
        return ""
    alike = without_suffix(path.name).casefold()
    for file in list_images(path.parent):
        if without_suffix(file.name).casefold() == alike:
            return f" (there is {file.name})"
    return ""


def _camera_at(camera: ColmapCamera, width: int, height: int, path: Path) -> ColmapCamera:
    """The camera at the size of its file; distortion does not depend on the size."""
    if (camera.width, camera.height) == (width, height):
        return camera
    ratio_x, ratio_y = width / camera.width, height / camera.height
    if abs(ratio_x / ratio_y - 1) > 0.02:
        raise ValueError(
            f"{path}: expected the proportions of its camera {camera.width}x{camera.height}, got "
            f"{width}x{height}: give the images that the poses were computed from"
        )
    factors = {"fx": ratio_x, "cx": ratio_x, "fy": ratio_y, "cy": ratio_y}
    factors["f"] = (ratio_x + ratio_y) / 2
    names = CAMERA_MODELS[camera.model].params
    if "f" in names and abs(ratio_x - ratio_y) > 1e-9 and camera.is_pinhole:
        # A single focal length cannot follow two ratios exactly; two can.
        return ColmapCamera.pinhole(
            camera.camera_id, width, height, np.diag([ratio_x, ratio_y, 1.0]) @ camera.K
        )
    params = [value * factors.get(name, 1.0) for name, value in zip(names, camera.params)]
    return ColmapCamera(camera.camera_id, camera.model, width, height, np.array(params))
