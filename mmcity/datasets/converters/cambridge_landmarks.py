"""Cambridge Landmarks for pose regression, from one scene of the original archive."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from mmcity.datasets.io import write_colmap_model
from mmcity.datasets.io.colmap_types import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints
from mmcity.datasets.io.nvm import read_nvm
from mmcity.structures.geometry import quat_to_rotmat, rotmat_to_quat
from mmcity.utils.checks import check_choice
from mmcity.utils.failures import ItemFailures
from mmcity.utils.fileio import atomic_path, read_text, split_name, write_text
from mmcity.utils.picture_files import image_size, read_image
from mmcity.utils.picture_names import check_unique, find_picture, picture_name, without_suffix

LAYOUTS = ("poses", "colmap")
#: Lines before the first image in the lists.
_HEADER_LINES = 3
#: Centres beyond this are failures of the reconstruction.
_FAR = 10_000.0


@dataclass
class _Photo:
    """One line of a list: where it lies and where it was taken."""

    source: Path
    name: str
    viewmat: np.ndarray  # (4, 4) world to camera
    is_test: bool


def convert_cambridge_landmarks(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    layout: str = "poses",
    short_side: int = 480,
    quality: int = 100,
) -> dict[str, tuple[int, int]]:
    """Convert one scene of Cambridge Landmarks.

    Args:
        source: Its folder: ``dataset_train.txt``, ``dataset_test.txt``, ``reconstruction.nvm``
            and the sequences.
        out: Folder to make.
        layout: ``poses`` gives what :class:`~mmcity.datasets.CambridgeLandmarks` reads,
            ``colmap`` a COLMAP scene with ``list_test.txt`` and the points of the NVM file.
            Defaults to ``poses``.
        short_side: Pixels of the shorter side; 0 keeps the size. Defaults to 480.
        quality: Of the JPEG files. Defaults to 100.

    Returns:
        Numbers of photos by split: those taken, and those left out, since they have no sound
        pose.

    Raises:
        FileNotFoundError: If a file of the archive is missing.
        ValueError: If a list is malformed, or pictures of the layout ``colmap`` differ in size.
        UserError: If photos cannot be read, once the others are converted.
    """
    check_choice("layout", layout, LAYOUTS)
    root, out = Path(source), Path(out)
    model = read_nvm(root / "reconstruction.nvm")
    known = {without_suffix(picture_name(name)) for name in model.names}
    photos, counts = [], {}
    for split in ("train", "test"):
        part, left_out = _read_list(root, split, known)
        photos += part
        counts[split] = (len(part), left_out)
    check_unique({str(photo.source): photo.name for photo in photos}, "the picture")
    sizes, failures = {}, ItemFailures("photos")
    for photo in track(photos, "Pictures"):
        folder = out / "images"
        if layout == "poses":
            folder = out / ("test" if photo.is_test else "train") / "rgb"
        with failures.item(photo.name):
            sizes[photo.name] = _save_picture(photo, folder / photo.name, short_side, quality)
            if layout == "poses":
                path = folder.parent / "poses" / Path(photo.name).with_suffix(".txt")
                path.parent.mkdir(parents=True, exist_ok=True)
                np.savetxt(path, np.linalg.inv(photo.viewmat), fmt="%.12g")
    if layout == "colmap" and sizes:
        placed = [photo for photo in photos if photo.name in sizes]
        _write_colmap(out, placed, model, list(sizes.values()))
    failures.check()
    return counts


def _read_list(root: Path, split: str, known: set[str]) -> tuple[list[_Photo], int]:
    """Photos of a split in the order of the list, and how many were left out.

    Lines are ``path tx ty tz qw qx qy qz``: t is the camera's centre, q turns world to camera.
    """
    path = root / f"dataset_{split}.txt"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the list of the original archive, found none")
    photos, skipped = [], 0
    for number, line in enumerate(read_text(path).splitlines()[_HEADER_LINES:], 4):
        if not line.strip():
            continue
        source, words = split_name(line, 7)
        source = picture_name(source)
        try:
            numbers = np.array([float(word) for word in words])
        except ValueError:
            numbers = np.zeros(0)
        if len(numbers) != 7:
            raise ValueError(f"{path}, line {number}: expected a path and 7 numbers, got {line!r}")
        is_known = not known or without_suffix(source) in known
        if not is_known or (np.abs(numbers[:3]) > _FAR).any():
            skipped += 1
            continue
        viewmat = np.eye(4)
        viewmat[:3, :3] = quat_to_rotmat(numbers[3:])
        viewmat[:3, 3] = -viewmat[:3, :3] @ numbers[:3]
        name = without_suffix(source).replace("/", "_") + ".jpg"
        photos.append(_Photo(find_picture(root, source), name, viewmat, split == "test"))
    return photos, skipped


def _save_picture(photo: _Photo, path: Path, short_side: int, quality: int) -> tuple[int, int]:
    """Write the picture, reduced; returns its width and height before."""
    image = Image.fromarray(read_image(photo.source))
    before = image.size
    if short_side and min(before) != short_side:
        scale = short_side / min(before)
        size = tuple(
            short_side if side == min(before) else math.ceil(side * scale) for side in before
        )
        image = image.resize(size, Image.Resampling.LANCZOS)
    with atomic_path(path) as temporary:
        image.save(temporary, quality=quality, subsampling=0)
    return before


def _write_colmap(out: Path, photos: list[_Photo], model, sizes: list) -> None:
    """``sparse/0`` with one pinhole camera, and ``list_test.txt``.

    Args:
        out: The scene, with its images.
        photos: All of them.
        model: Of the NVM file; its focal lengths are those of the original pictures.
        sizes: Widths and heights of these.
    """
    shapes = {image_size(out / "images" / photo.name) for photo in photos}
    if len(shapes) != 1:
        raise ValueError(f"{out}: expected pictures of one size, got {sorted(shapes)}")
    width, height = shapes.pop()
    focal = float(np.median(model.focals)) * min(width, height) / min(sizes[0])
    K = [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]
    images = {}
    for number, photo in enumerate(photos, 1):
        quat = rotmat_to_quat(photo.viewmat[:3, :3])
        images[number] = ColmapImage(number, quat, photo.viewmat[:3, 3], 1, photo.name)
    points = ColmapPoints.empty()
    if len(model.points):
        points = ColmapPoints.from_arrays(model.points, model.colors)
    scene = ColmapModel({1: ColmapCamera.pinhole(1, width, height, K)}, images, points)
    write_colmap_model(scene, out / "sparse" / "0")
    tests = [photo.name for photo in photos if photo.is_test]
    write_text(out / "list_test.txt", "".join(f"{name}\n" for name in tests))
