"""7-Scenes with poses of structure from motion, as COLMAP scenes."""

import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from mmcity.datasets.io import write_colmap_model
from mmcity.datasets.io.colmap_types import ColmapCamera, ColmapImage, ColmapModel
from mmcity.utils.failures import ItemFailures
from mmcity.utils.fileio import path_below, read_rows, split_name, write_text
from mmcity.utils.picture_files import image_size
from mmcity.utils.picture_names import check_once


def convert_seven_scenes(
    source: str | os.PathLike,
    out: str | os.PathLike,
    poses: Sequence[str | os.PathLike],
    test_poses: Sequence[str | os.PathLike],
    *,
    copy: bool = False,
) -> dict[str, int]:
    """Convert one scene of 7-Scenes.

    What comes out is a COLMAP scene with ``list_test.txt``. It has no 3D points: maps start
    from random ones (``model.init.source=random``), or triangulate.

    Args:
        source: Folder of one original scene (``seq-NN/frame-XXXXXX.color.png``).
        out: Folder to make.
        poses: Public text files with lines ``file qw qx qy qz tx ty tz f`` (world to camera)
            of the training images.
        test_poses: Such files of the test images.
        copy: Copy the images instead of linking them. Defaults to False.

    Returns:
        Numbers of images by split.

    Raises:
        ValueError: If a pose file is malformed.
        UserError: If images that a pose file names are missing or broken, once the others are
            converted.
    """
    root, out = Path(source), Path(out)
    cameras: dict[tuple, ColmapCamera] = {}
    images: dict[int, ColmapImage] = {}
    names: dict[str, list[str]] = {"train": [], "test": []}
    failures = ItemFailures("images")
    for split, files in (("train", poses), ("test", test_poses)):
        for name, numbers in (row for file in files for row in _read_poses(Path(file))):
            picture, target = path_below(root, name), path_below(out / "images", name)
            with failures.item(name):
                width, height = image_size(picture)
            if name in failures.reasons:
                continue
            key = (width, height, numbers[7])
            if key not in cameras:
                K = [[numbers[7], 0, width / 2], [0, numbers[7], height / 2], [0, 0, 1]]
                cameras[key] = ColmapCamera.pinhole(len(cameras) + 1, width, height, K)
            number = len(images) + 1
            images[number] = ColmapImage(
                number, numbers[:4], numbers[4:7], cameras[key].camera_id, name
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            if copy:
                shutil.copyfile(picture, target)
            elif target.is_symlink() or not target.exists():
                target.unlink(missing_ok=True)  # of an earlier run, perhaps of another source
                target.symlink_to(picture.resolve())
            names[split].append(name)
    model = ColmapModel({camera.camera_id: camera for camera in cameras.values()}, images)
    write_colmap_model(model, out / "sparse" / "0")
    write_text(out / "list_test.txt", "".join(f"{name}\n" for name in names["test"]))
    failures.check()
    return {split: len(part) for split, part in names.items()}


def _read_poses(path: Path) -> list[tuple[str, list[float]]]:
    """Names and 8 numbers of the lines of a pose file."""
    rows = []
    for number, line in read_rows(path):
        name, words = split_name(line, 8)
        try:
            numbers = [float(value) for value in words]
        except ValueError:
            numbers = []
        if len(numbers) != 8 or not all(map(math.isfinite, numbers)):
            raise ValueError(
                f"{path}, line {number}: expected file qw qx qy qz tx ty tz f, got {line!r}"
            )
        rows.append((name.replace("\\", "/"), numbers))
    if not rows:
        raise ValueError(f"{path}: expected lines of poses, found none")
    check_once((name for name, _ in rows), path)
    return rows
