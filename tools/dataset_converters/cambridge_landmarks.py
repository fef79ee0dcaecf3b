"""Cambridge Landmarks for pose regression: ``python .../cambridge_landmarks.py SRC OUT``.

SRC is one scene of the original archive (``dataset_train.txt``, ``dataset_test.txt``,
``reconstruction.nvm`` and the sequences). Layout ``poses`` gives what ``CambridgeLandmarks``
reads, layout ``colmap`` a COLMAP scene with ``list_test.txt`` and the points of the NVM file.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

#: Lines before the first image in the lists.
_HEADER_LINES = 3
#: Centres beyond this are failures of the reconstruction.
_FAR = 10_000.0


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="folder of one original scene")
    parser.add_argument("out", help="folder to make")
    parser.add_argument("--layout", default="poses", choices=("poses", "colmap"))
    parser.add_argument("--short-side", type=int, default=480, help="px, 0 keeps the size")
    parser.add_argument("--quality", type=int, default=100, help="of the JPEG files")
    return parser.parse_args(argv)


@dataclass
class Photo:
    """One line of a list: where it lies and where it was taken."""

    source: Path
    name: str
    viewmat: object  # (4, 4) world to camera
    is_test: bool


def read_list(root: Path, split: str, known: set[str]) -> tuple[list[Photo], int]:
    """Photos of a split in the order of the list, and how many were left out.

    Lines are ``path tx ty tz qw qx qy qz``: t is the camera's centre, q turns world to camera.
    """
    import numpy as np
    import torch

    from mmcity.structures.geometry import quat_to_rotmat

    path = root / f"dataset_{split}.txt"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the list of the original archive")
    photos, skipped = [], 0
    for number, line in enumerate(path.read_text().splitlines()[_HEADER_LINES:], 4):
        if not line.strip():
            continue
        parts = line.split()
        if len(parts) != 8:
            raise ValueError(f"{path}, line {number}: expected a path and 7 numbers, got {line!r}")
        numbers = np.array([float(value) for value in parts[1:]])
        is_known = not known or Path(parts[0]).with_suffix("").as_posix() in known
        if not is_known or (np.abs(numbers[:3]) > _FAR).any():
            skipped += 1
            continue
        viewmat = np.eye(4)
        viewmat[:3, :3] = quat_to_rotmat(torch.from_numpy(numbers[3:])).numpy()
        viewmat[:3, 3] = -viewmat[:3, :3] @ numbers[:3]
        name = Path(parts[0]).with_suffix(".jpg").as_posix().replace("/", "_")
        photos.append(Photo(root / parts[0], name, viewmat, split == "test"))
    return photos, skipped


def save_picture(photo: Photo, path: Path, short_side: int, quality: int) -> tuple[int, int]:
    """Write the picture, reduced; returns its width and height before."""
    import math

    from PIL import Image

    from mmcity.utils.fileio import atomic_path

    with Image.open(photo.source) as image:
        image = image.convert("RGB")
        before = image.size
        if short_side and min(before) != short_side:
            scale = short_side / min(before)
            size = tuple(
                short_side if side == min(before) else math.ceil(side * scale) for side in before
            )
            image = image.resize(size, Image.Resampling.LANCZOS)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            image.save(temporary, quality=quality, subsampling=0)
    return before


def write_colmap(out: Path, photos: list[Photo], model, sizes: dict) -> None:
    """``sparse/0`` with one pinhole camera, and ``list_test.txt``."""
    import numpy as np
    import torch

    from mmcity.datasets.io import write_colmap_model
    from mmcity.datasets.io.colmap_types import (
        ColmapCamera,
        ColmapImage,
        ColmapModel,
        ColmapPoints,
    )
    from mmcity.datasets.transforms.posed_images import image_size
    from mmcity.structures.geometry import rotmat_to_quat

    shapes = {image_size(out / "images" / photo.name) for photo in photos}
    if len(shapes) != 1:
        raise ValueError(f"{out}: expected pictures of one size, got {sorted(shapes)}")
    width, height = shapes.pop()
    before = next(iter(sizes.values()))
    focal = float(np.median(model.focals)) * min(width, height) / min(before)
    K = [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]
    images = {}
    for number, photo in enumerate(photos, 1):
        quat = rotmat_to_quat(torch.from_numpy(photo.viewmat[:3, :3])).numpy()
        images[number] = ColmapImage(number, quat, photo.viewmat[:3, 3], 1, photo.name)
    points = ColmapPoints.empty()
    if len(model.points):
        points = ColmapPoints.from_arrays(model.points, model.colors)
    scene = ColmapModel({1: ColmapCamera.pinhole(1, width, height, K)}, images, points)
    write_colmap_model(scene, out / "sparse" / "0")
    tests = [photo.name for photo in photos if photo.is_test]
    (out / "list_test.txt").write_text("".join(f"{name}\n" for name in tests))


def main(argv: list[str] | None = None) -> None:
    """Convert one scene."""
    args = parse_args(argv)
    import numpy as np
    from rich.progress import track

    from mmcity.datasets.io.nvm import read_nvm

    root, out = Path(args.source), Path(args.out)
    model = read_nvm(root / "reconstruction.nvm")
    known = {Path(name).with_suffix("").as_posix() for name in model.names}
    photos, skipped = [], 0
    for split in ("train", "test"):
        part, lost = read_list(root, split, known)
        print(f"{split}: {len(part)} photos, {lost} left out (not reconstructed)")
        photos += part
        skipped += lost
    sizes = {}
    for photo in track(photos, "Pictures"):
        folder = out / "images"
        if args.layout == "poses":
            folder = out / ("test" if photo.is_test else "train") / "rgb"
            pose = np.linalg.inv(photo.viewmat)
            path = folder.parent / "poses" / Path(photo.name).with_suffix(".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savetxt(path, pose, fmt="%.12g")
        sizes[photo.name] = save_picture(photo, folder / photo.name, args.short_side, args.quality)
    if args.layout == "colmap":
        write_colmap(out, photos, model, sizes)
    print(f"wrote {out}")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
