"""7-Scenes with poses of structure from motion: ``python .../seven_scenes_sfm.py SRC OUT``.

SRC is one original scene (``seq-NN/frame-XXXXXX.color.png``); ``--poses`` and ``--test-poses``
name the public text files with lines ``file qw qx qy qz tx ty tz f`` (world to camera). OUT
becomes a COLMAP scene with ``list_test.txt``; images are linked, or copied with ``--copy``. It has
no 3D points: maps start from random ones (``model.init.source=random``), or triangulate.
"""

import argparse
import shutil
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="folder of one original scene")
    parser.add_argument("out", help="folder to make")
    parser.add_argument("--poses", required=True, nargs="+", help="text files of training poses")
    parser.add_argument("--test-poses", required=True, nargs="+", help="text files of test poses")
    parser.add_argument("--copy", action="store_true", help="copy images instead of linking them")
    return parser.parse_args(argv)


def read_poses(path: Path) -> list[tuple[str, list[float]]]:
    """Names and 8 numbers of the lines of a pose file."""
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        parts = line.split()
        if not parts or line.startswith("#"):
            continue
        try:
            numbers = [float(value) for value in parts[1:]]
        except ValueError:
            numbers = []
        if len(numbers) != 8:
            raise ValueError(
                f"{path}, line {number}: expected file qw qx qy qz tx ty tz f, got {line!r}"
            )
        rows.append((parts[0].replace("\\", "/"), numbers))
    if not rows:
        raise ValueError(f"{path}: expected lines of poses, found none")
    return rows


def main(argv: list[str] | None = None) -> None:
    """Convert one scene."""
    args = parse_args(argv)
    from mmcity.datasets.io import write_colmap_model
    from mmcity.datasets.io.colmap_types import ColmapCamera, ColmapImage, ColmapModel
    from mmcity.datasets.transforms.posed_images import image_size

    root, out = Path(args.source), Path(args.out)
    cameras: dict[tuple, ColmapCamera] = {}
    images: dict[int, ColmapImage] = {}
    tests = []
    for files, is_test in ((args.poses, False), (args.test_poses, True)):
        for name, numbers in (row for file in files for row in read_poses(Path(file))):
            source = root / name
            if not source.is_file():
                raise FileNotFoundError(f"{source}: a pose file names it, found none")
            width, height = image_size(source)
            key = (width, height, numbers[7])
            if key not in cameras:
                K = [[numbers[7], 0, width / 2], [0, numbers[7], height / 2], [0, 0, 1]]
                cameras[key] = ColmapCamera.pinhole(len(cameras) + 1, width, height, K)
            number = len(images) + 1
            images[number] = ColmapImage(
                number, numbers[:4], numbers[4:7], cameras[key].camera_id, name
            )
            target = out / "images" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if args.copy:
                shutil.copyfile(source, target)
            elif not target.exists():
                target.symlink_to(source.resolve())
            if is_test:
                tests.append(name)
    model = ColmapModel({camera.camera_id: camera for camera in cameras.values()}, images)
    write_colmap_model(model, out / "sparse" / "0")
    (out / "list_test.txt").write_text("".join(f"{name}\n" for name in tests))
    print(f"{len(images) - len(tests)} training and {len(tests)} test images, wrote {out}")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
