"""Smaller copies of COLMAP scenes: pictures, cameras and points of a lower resolution."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from mmcity.datasets.colmap import find_image_dir
from mmcity.datasets.io.colmap_model import find_colmap_model, read_colmap_model, write_colmap_model
from mmcity.datasets.io.colmap_types import CAMERA_MODELS, ColmapCamera, ColmapModel
from mmcity.datasets.transforms import read_image, target_size
from mmcity.structures.scene_frame import FRAME_FILE
from mmcity.utils.checks import check_choice
from mmcity.utils.failures import ItemFailures
from mmcity.utils.fileio import atomic_path, path_below, scratch_folder, visible
from mmcity.utils.images import list_images
from mmcity.utils.picture_names import check_unique, find_picture, match_names

#: ``observed`` keeps the 2D points that belong to kept points, with the tracks.
FEATURES = ("observed", "none")


@dataclass
class ReducedScene:
    """The smaller copy of a scene.

    Attributes:
        path: Its folder.
        pictures: Number of pictures.
        points: Number of points, and of those of the source.
        size: Bytes of all files.
    """

    path: Path
    pictures: int
    points: tuple[int, int]
    size: int

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.pictures} pictures, {self.points[0]} of {self.points[1]} points, "
            f"{self.size / 1e6:.2f} MB. Masks and depth maps are not copied."
        )


def reduce_scene(
    src: str | os.PathLike,
    dst: str | os.PathLike,
    *,
    long_side: int = 480,
    quality: int = 85,
    max_points: int | None = None,
    features: str = "observed",
    image_dir: str = "auto",
) -> ReducedScene:
    """Write a smaller copy of a COLMAP scene.

    Args:
        src: Scene with images and a sparse model.
        dst: New or empty folder.
        long_side: Pixels of the longer side. Defaults to 480.
        quality: Of JPEG files, 1 to 95. Defaults to 85.
        max_points: Keep so many points, those seen by most images first. Defaults to all.
        features: Keep the 2D points that belong to kept points, with the tracks (``observed``), or
            ``none``. Defaults to ``observed``.
        image_dir: Images folder of the source. Defaults to ``auto``.

    Raises:
        FileExistsError: If ``dst`` holds something.
        FileNotFoundError: If images are missing.
        ValueError: If a number is out of its range.
        UserError: If pictures are broken, once the others are written; the copy lacks them.
    """
    src, dst = Path(src), Path(dst)
    if long_side < 1 or not 1 <= quality <= 95:
        raise ValueError(
            f"long_side, quality: expected at least 1, and 1 to 95, got {long_side} and {quality}"
        )
    check_choice("features", features, FEATURES)
    if dst.resolve() == src.resolve() or (dst.exists() and any(dst.iterdir())):
        raise FileExistsError(f"{dst}: expected a new or empty folder as target")
    folder = find_colmap_model(src)
    model = read_colmap_model(folder)
    image_dir = find_image_dir(src, [image.name for image in model.images.values()], image_dir)
    sources = {image.name: find_picture(image_dir, image.name) for image in model.images.values()}
    check_unique(sources, "pixels")
    missing = [str(path) for path in sources.values() if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{src}: expected {len(missing)} more images, e.g. {missing[:3]}")
    before = len(model.points3D)
    model = _reduce_model(model, long_side, max_points, features)
    failures = ItemFailures("pictures")
    with scratch_folder(dst) as work:
        scene = work / "scene"
        pictures = _write_scene(model, src, folder, sources, scene, quality, failures)
        scene.rename(dst)
    failures.check()
    return ReducedScene(
        dst,
        pictures=pictures,
        points=(len(model.points3D), before),
        size=sum(file.stat().st_size for file in dst.rglob("*") if file.is_file()),
    )


def _write_scene(
    model: ColmapModel,
    src: Path,
    folder: Path,
    sources: dict[str, Path],
    dst: Path,
    quality: int,
    failures: ItemFailures,
) -> int:
    """Write model, pictures and split files; returns the number of pictures."""
    write_colmap_model(model, dst / folder.relative_to(src))
    targets = {}
    for image in track(model.images.values(), "Pictures"):
        camera, source = model.cameras[image.camera_id], sources[image.name]
        target = path_below(dst, source.relative_to(src).as_posix())
        with failures.item(image.name):
            _save_picture(source, target, (camera.width, camera.height), quality)
            targets[image.name] = target
    held = {str(p.relative_to(src / "val/rgbs")) for p in list_images(src / "val/rgbs", True)}
    for entry, name in match_names(held, targets, str(src / "val/rgbs")).items():
        copy = (dst / "val/rgbs" / entry).with_suffix(targets[name].suffix)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(targets[name], copy)
    for table in visible([*src.glob("list_test.txt"), *src.glob("*.tsv"), *src.glob(FRAME_FILE)]):
        shutil.copyfile(table, dst / table.name)
    return len(targets)


def _scaled_camera(camera: ColmapCamera, width: int, height: int) -> ColmapCamera:
    """The camera at another size; a single focal length becomes two where ratios differ."""
    ratio_x, ratio_y = width / camera.width, height / camera.height
    if camera.is_pinhole:
        K = np.diag([ratio_x, ratio_y, 1.0]) @ camera.K
        return ColmapCamera.pinhole(camera.camera_id, width, height, K)
    factors = {"fx": ratio_x, "cx": ratio_x, "fy": ratio_y, "cy": ratio_y, "f": ratio_x}
    names = CAMERA_MODELS[camera.model].params
    params = [value * factors.get(name, 1.0) for name, value in zip(names, camera.params)]
    return ColmapCamera(camera.camera_id, camera.model, width, height, params)


def _reduce_model(
    model: ColmapModel, long_side: int, max_points: int | None, features: str
) -> ColmapModel:
    """Cameras, features and points of the reduced scene."""
    cameras = {
        key: _scaled_camera(c, *target_size(c.width, c.height, long_side=long_side))
        for key, c in model.cameras.items()
    }
    points = model.points3D
    if max_points is not None and max_points < len(points):
        order = np.argsort(-points.track_lengths, kind="stable")[:max_points]
        points = points[np.sort(order)]
    # Rows of the kept features of each image, old index -> new index.
    kept_rows: dict[int, np.ndarray] = {}
    for image in model.images.values():
        keep = np.isin(image.point3D_ids, points.ids) & (image.point3D_ids >= 0)
        keep &= features != "none"
        kept_rows[image.image_id] = np.where(keep, np.cumsum(keep) - 1, -1)
        old, new = model.cameras[image.camera_id], cameras[image.camera_id]
        image.xys = image.xys[keep] * [new.width / old.width, new.height / old.height]
        image.point3D_ids = image.point3D_ids[keep]
    lengths = np.zeros(len(points), np.int64)
    tracks = np.zeros((0, 2), np.int32)
    if features != "none":
        tracks, lengths = points.tracks.copy(), points.track_lengths
        for image_id, rows in kept_rows.items():
            own = tracks[:, 0] == image_id
            tracks[own, 1] = rows[tracks[own, 1]]
    ratio = np.mean([c.width / model.cameras[k].width for k, c in cameras.items()])
    points = type(points).from_arrays(
        points.xyz,
        points.rgb,
        np.where(points.errors >= 0, points.errors * ratio, points.errors),
        ids=points.ids,
        track_lengths=lengths,
        tracks=tracks,
    )
    return ColmapModel(cameras, model.images, points)


def _save_picture(source: Path, target: Path, size: tuple[int, int], quality: int) -> None:
    """Resize one picture; other formats than JPEG keep theirs."""
    image = Image.fromarray(read_image(source)).resize(size, Image.Resampling.LANCZOS)
    with atomic_path(target) as temporary:
        image.save(temporary, quality=quality, optimize=True)
