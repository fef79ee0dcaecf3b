"""Scenes of photographs with poses: COLMAP, CityGS-X, MatrixCity, Cambridge, 7-Scenes."""

from pathlib import Path

import numpy as np

from mmcity.miniature.colmap import write_model
from mmcity.miniature.room import Room, RoomVideo, flight, pinhole, round_walk
from mmcity.structures import Trajectory
from mmcity.toytown.writers.common import save_image
from mmcity.utils.fileio import write_text

#: Pictures of a localisation benchmark: enough for a batch of 8 after every fifth was taken.
_MAPPED, _QUERIES = 60, 4
#: Sizes of photographs: width, height.
_SURVEY, _MATRIX_CITY, _PHOTO = (480, 360), (192, 108), (640, 480)


def _model(folder: Path, video: RoomVideo, names: list[str], num_points: int = 3000) -> None:
    """COLMAP model of points that the pictures show."""
    each = num_points // len(video)
    points = np.concatenate([video.random_points(frame, each) for frame in range(len(video))])
    colors = video.room.colors(points)
    write_model(folder, names, video.poses, video.K, video.size, points=points, colors=colors)


def _prior(path: Path, video: RoomVideo, frame: int) -> None:
    """Inverse depth up to scale and shift, 16 bits."""
    inverse = 1 / video.depth(frame)
    save_image(path, np.round(60000 * inverse / inverse.max() + 2000).astype(np.uint16))


def write_citygsx(out: Path) -> None:
    """Mill-19 or UrbanScene3D, prepared: 24 pictures of which 2 are also in ``val/rgbs``."""
    room = Room((-2, -2, 0), (2, 2, 3))
    video = RoomVideo(room, pinhole(400, _SURVEY), _SURVEY, flight(4, 6, 0.3, 1.5))
    names = [f"{number:06d}.jpg" for number in range(len(video))]
    for frame, name in enumerate(names):
        video.picture(out / "train" / "rgbs" / name, frame)
        _prior(out / "train" / "depths" / name.replace(".jpg", ".png"), video, frame)
        if frame % 12 == 5:
            video.picture(out / "val" / "rgbs" / name, frame)
    _model(out / "sparse" / "0", video, names)


def write_matrixcity(out: Path) -> None:
    """MatrixCity aerial: 24 training pictures, 2 test pictures with a model of their own."""
    room = Room((-6, -6, 0), (6, 6, 9))
    poses = flight(4, 6, 1.0, 3.0)
    for part, block, chosen in (
        ("train", "block_all", slice(None)),
        ("test", "block_all_test", slice(8, 10)),
    ):
        shift = np.eye(4)
        shift[0, 3] = 0.5 if part == "test" else 0
        video = RoomVideo(room, pinhole(160, _MATRIX_CITY), _MATRIX_CITY, shift @ poses[chosen])
        names = [f"{number:04d}.png" for number in range(len(video))]
        folder = out / part / block
        for frame, name in enumerate(names):
            video.picture(folder / "images" / name, frame)
            if part == "train":
                _prior(folder / "depth" / name, video, frame)
        _model(folder / "sparse" / "0", video, names)


def _benchmark() -> RoomVideo:
    room = Room((-4, -4, -1.5), (4, 4, 2))
    return RoomVideo(
        room, pinhole(525, _PHOTO), _PHOTO, round_walk(_MAPPED + _QUERIES, 1.0), coarse=4
    )


def _is_query(frame: int) -> bool:
    return frame % 16 == 7


def write_colmap(out: Path, pattern: str = "IMG_{:04d}.jpg", num_points: int = 3000) -> None:
    """COLMAP scene: ``images``, ``sparse/0``, ``list_test.txt``, metric depth in ``depths``."""
    video = _benchmark()
    names = [pattern.format(frame) for frame in range(len(video))]
    for frame, name in enumerate(names):
        video.picture(out / "images" / name, frame)
        _prior((out / "depths" / name).with_suffix(".png"), video, frame)
    _model(out / "sparse" / "0", video, names, num_points)
    queries = [name for frame, name in enumerate(names) if _is_query(frame)]
    write_text(out / "list_test.txt", "\n".join(queries) + "\n")


def write_seven_scenes_sfm(out: Path) -> None:
    """7-Scenes with poses of structure from motion: a COLMAP scene without points."""
    write_colmap(out, "seq-01/frame-{:06d}.color.png", num_points=0)


def write_cambridge(out: Path) -> None:
    """Cambridge Landmarks, prepared for pose regression: ``{train,test}/{rgb,poses}``."""
    size = (854, 480)
    room = Room((-20, -20, -2), (20, 20, 12))
    poses = round_walk(_MAPPED + _QUERIES, 5.0)
    video = RoomVideo(room, pinhole(744, size), size, poses, coarse=4)
    for frame, pose in enumerate(poses):
        split = "test" if _is_query(frame) else "train"
        stem = f"seq{1 + frame // 40}_frame{frame + 1:05d}"
        video.picture(out / split / "rgb" / f"{stem}.jpg", frame)
        rows = "\n".join(" ".join(f"{value:.9g}" for value in row) for row in pose)
        write_text(out / split / "poses" / f"{stem}.txt", rows + "\n")


def write_seven_scenes(out: Path, mapped: int = _MAPPED, queries: int = _QUERIES) -> None:
    """One scene of 7-Scenes: a sequence that trains and one that tests, colour, depth, poses."""
    room = Room((-4, -4, -1.5), (4, 4, 2))
    for number, name, count in ((1, "Train", mapped), (2, "Test", queries)):
        walk = round_walk(count, 1.0, turn=360 if name == "Train" else 90, height=0.1 * number)
        video = RoomVideo(room, pinhole(525, _PHOTO), _PHOTO, walk, coarse=4)
        folder = out / f"seq-{number:02d}"
        for frame in range(count):
            stem = f"frame-{frame:06d}"
            video.picture(folder / f"{stem}.color.png", frame)
            for kind in ("depth", "depth.proj"):
                video.depth_file(folder / f"{stem}.{kind}.png", frame, 1000, 65535)
        Trajectory(walk).write_7scenes(folder)
        write_text(out / f"{name}Split.txt", f"sequence{number}\n")
