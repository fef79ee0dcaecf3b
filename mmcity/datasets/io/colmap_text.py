"""COLMAP's text files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmcity.utils.fileio import read_lines

from .colmap_types import CAMERA_MODELS, ColmapCamera, ColmapFormatError, ColmapImage, ColmapPoints

#: On the squared length of a quaternion, which some programs write with three digits.
_UNIT_TOLERANCE = 2e-2


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines without their ends; comments are left out, empty lines are kept."""
    try:
        for number, line in enumerate(read_lines(path), start=1):
            if not line.lstrip().startswith("#"):
                yield number, line
    except ValueError as error:
        raise ColmapFormatError(path, "UTF-8 text", str(error)) from error


def _bad(path: Path, number: int, expected: str, line: str) -> ColmapFormatError:
    shown = line if len(line) <= 120 else line[:117] + "..."
    return ColmapFormatError(path, f"{expected} in line {number}", repr(shown))


def read_cameras_txt(path: Path) -> dict[int, ColmapCamera]:
    """Read ``cameras.txt``."""
    cameras: dict[int, ColmapCamera] = {}
    for number, line in _lines(path):
        words = line.split()
        if not words:
            continue
        if len(words) < 5 or words[1] not in CAMERA_MODELS:
            raise _bad(path, number, "'ID MODEL WIDTH HEIGHT PARAMS...' with a known model", line)
        try:
            camera_id, width, height = int(words[0]), int(words[2]), int(words[3])
            params = [float(word) for word in words[4:]]
            camera = ColmapCamera(camera_id, words[1], width, height, params)
        except ValueError as error:
            raise _bad(path, number, f"a valid camera ({error})", line) from error
        if camera_id in cameras:
            raise _bad(path, number, "unique camera ids", line)
        cameras[camera_id] = camera
    return cameras


def _begins_image(line: str) -> bool:
    """Whether a line looks like ``ID QW QX QY QZ TX TY TZ CAMERA_ID NAME``.

    Feature points are told from it by their quaternion, which has not length 1.
    """
    words = line.split(maxsplit=9)
    if len(words) != 10 or not (words[0].isdigit() and words[8].isdigit()):
        return False
    try:
        pose = [float(word) for word in words[1:8]]
    except ValueError:
        return False
    return abs(sum(value * value for value in pose[:4]) - 1) < _UNIT_TOLERANCE


def count_images(path: Path) -> int:
    """Number of images in ``images.txt``."""
    return sum(_begins_image(line) for _, line in _lines(path))


def read_images_txt(path: Path, with_features: bool = True) -> dict[int, ColmapImage]:
    """Read ``images.txt``: a line per image and one of its feature points.

    Several programs leave out the second line, or drop it where it is empty: each line is read
    as what it is, whatever its place.
    """
    images: dict[int, ColmapImage] = {}
    image = None  # whose feature points may follow
    for number, line in _lines(path):
        words = line.split()
        if not words:
            image = None
        elif image is not None and not _begins_image(line):
            if len(words) % 3:
                what = f"'X Y POINT3D_ID' triples of image {image.image_id}"
                raise _bad(path, number, what, line)
            try:
                xys = np.array([words[0::3], words[1::3]], dtype=np.float64).T.copy()
                ids = np.array([int(word) for word in words[2::3]], dtype=np.int64)
            except (ValueError, OverflowError) as error:
                raise _bad(path, number, f"feature points ({error})", line) from error
            if with_features:
                image.xys, image.point3D_ids = xys, ids
            image = None
        else:
            image = _image(path, number, line)
            if image.image_id in images:
                raise _bad(path, number, "unique image ids", line)
            images[image.image_id] = image
    return images


def _image(path: Path, number: int, line: str) -> ColmapImage:
    words = line.split(maxsplit=9)
    if len(words) != 10:
        raise _bad(path, number, "'ID QW QX QY QZ TX TY TZ CAMERA_ID NAME'", line)
    try:
        pose = [float(word) for word in words[1:8]]
        return ColmapImage(int(words[0]), pose[:4], pose[4:], int(words[8]), words[9].strip())
    except ValueError as error:
        raise _bad(path, number, f"a valid image ({error})", line) from error


def read_points3D_txt(path: Path, with_tracks: bool = True) -> ColmapPoints:
    """Read ``points3D.txt``."""
    ids, values, lengths, tracks = [], [], [], []
    for number, line in _lines(path):
        words = line.split()
        if not words:
            continue
        if len(words) < 8 or len(words) % 2:
            raise _bad(path, number, "'ID X Y Z R G B ERROR (IMAGE_ID INDEX)...'", line)
        try:
            ids.append(int(words[0]))
            values.append([float(word) for word in words[1:8]])
            if not all(0 <= value <= 255 for value in values[-1][3:6]):
                raise ValueError("a colour lies outside of 0..255")
            if not 0 <= ids[-1] < 2**63:
                raise ValueError("the id does not fit 64 bits")
            if with_tracks:
                tracks.append(np.array([int(word) for word in words[8:]], dtype=np.int32))
                lengths.append(len(words) // 2 - 4)
        except (ValueError, OverflowError) as error:
            raise _bad(path, number, f"a valid point ({error})", line) from error
    if len(set(ids)) != len(ids):
        raise ColmapFormatError(path, "unique point ids", "ids that occur twice")
    table = np.array(values, dtype=np.float64).reshape(-1, 7)
    return ColmapPoints.from_arrays(
        table[:, :3],
        table[:, 3:6].astype(np.uint8),
        table[:, 6],
        ids=np.array(ids, dtype=np.int64),
        track_lengths=np.array(lengths, dtype=np.int64) if with_tracks else None,
        tracks=np.concatenate(tracks) if tracks else None,
    )


def _joined(values) -> str:
    # repr of a float is the shortest text that reads back to the same number.
    return " ".join(repr(value) for value in np.asarray(values).tolist())


def write_cameras_txt(cameras: dict[int, ColmapCamera], path: Path) -> None:
    """Write ``cameras.txt``."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n")
        for c in cameras.values():
            file.write(f"{c.camera_id} {c.model} {c.width} {c.height} {_joined(c.params)}\n")


def write_images_txt(images: dict[int, ColmapImage], path: Path) -> None:
    """Write ``images.txt``."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n")
        file.write("# POINTS2D[] as (X, Y, POINT3D_ID)\n")
        for image in images.values():
            pose = _joined(np.concatenate([image.qvec, image.tvec]))
            file.write(f"{image.image_id} {pose} {image.camera_id} {image.name}\n")
            rows = zip(image.xys.tolist(), image.point3D_ids.tolist())
            file.write(" ".join(f"{x!r} {y!r} {point}" for (x, y), point in rows) + "\n")


def write_points3D_txt(points: ColmapPoints, path: Path) -> None:
    """Write ``points3D.txt``."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)\n")
        for row in range(len(points)):
            begin, end = points.track_offsets[row], points.track_offsets[row + 1]
            head = f"{points.ids[row]} {_joined(points.xyz[row])} {_joined(points.rgb[row])}"
            track = _joined(points.tracks[begin:end].reshape(-1))
            file.write(f"{head} {float(points.errors[row])!r} {track}".rstrip() + "\n")
