"""Videos with depth and poses: the sets that StreamVGGT trains and is measured on."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmcity.miniature.room import Room, RoomVideo, pinhole, round_walk
from mmcity.miniature.scenes import write_seven_scenes
from mmcity.structures import Trajectory
from mmcity.structures.geometry import OPENGL_TO_OPENCV, se3_inverse
from mmcity.toytown.writers.training_layouts import TRAINING_LAYOUTS
from mmcity.utils.fileio import atomic_path, to_json, write_text

_SIZE = (256, 192)
#: Frames of a training video, of a test video, of an object of Co3D (which wants 50 or more).
_TRAIN, _TEST, _OBJECT = 12, 3, 50
_SINTEL_TAG = 202021.25


def _video(
    frames: int, index: int = 0, size: tuple[int, int] = _SIZE, focal: float | None = None
) -> RoomVideo:
    room = Room((-3, -3, -1.5), (3, 3, 1.5), seed=index)
    walk = round_walk(frames, 1.0, turn=4.0 * frames)
    K = pinhole(focal or 0.9 * size[0], size)
    return RoomVideo(room, K, size, walk, index, coarse=4 if size[0] > _SIZE[0] else 1)


def write_training_sets(out: Path) -> None:
    """The 15 training sets, a video each."""
    for index, write in enumerate(TRAINING_LAYOUTS.values()):
        write(out, [_video(_TRAIN, index)])


def _write_bytes(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _rows(matrix: np.ndarray) -> str:
    return "".join(" ".join(f"{value:.9g}" for value in row) + "\n" for row in matrix)


def _sintel(root: Path) -> None:
    base = root / "sintel" / "training"
    for index, name in enumerate(("alley_2", "bamboo_1")):  # the second is none of the pose suite
        video = _video(_TEST, index)
        for frame, pose in enumerate(video.poses):
            stem = f"frame_{frame + 1:04d}"
            video.picture(base / "final" / name / f"{stem}.png", frame)
            depth = struct.pack("<f2i", _SINTEL_TAG, *video.size)
            depth += video.depth(frame).astype("<f4").tobytes()
            _write_bytes(base / "depth" / name / f"{stem}.dpt", depth)
            viewmat = np.asarray(se3_inverse(pose))[:3]
            numbers = np.concatenate([video.K.ravel(), viewmat.ravel()]).astype("<f8")
            camera = struct.pack("<f", _SINTEL_TAG) + numbers.tobytes()
            _write_bytes(base / "camdata_left" / name / f"{stem}.cam", camera)


def _bonn(root: Path) -> None:
    for index, name in enumerate(
        ("balloon2", "crowd2", "crowd3", "person_tracking2", "synchronous")
    ):
        folder = root / "bonn" / "rgbd_bonn_dataset" / f"rgbd_bonn_{name}"
        video = _video(_TEST, index)
        for frame in range(len(video)):
            stamp = 1548266508 + frame / 30
            video.picture(folder / "rgb_110" / f"{stamp:.5f}.png", frame)
            video.depth_file(folder / "depth_110" / f"{stamp + 0.004:.5f}.png", frame, 5000, 0)
        Trajectory(video.poses).write_tum(folder / "groundtruth_110.txt")


def _kitti(root: Path) -> None:
    base = root / "kitti" / "depth_selection" / "val_selection_cropped"
    drive, video = "2011_09_26_drive_0002_sync", _video(_TEST)
    for frame in range(len(video)):
        name = f"{frame:010d}.png"
        video.picture(base / "image_gathered" / drive / name, frame)
        video.depth_file(base / "groundtruth_depth_gathered" / drive / name, frame, 256, 0)


def _nyu_v2(root: Path) -> None:
    video = _video(_TEST)
    for frame in range(len(video)):
        video.picture(root / "nyu_v2" / "val" / "nyu_images" / f"{frame}.png", frame)
        video.depth_file(root / "nyu_v2" / "val" / "nyu_depths" / f"{frame}.npy", frame, 1, 0)


def _scannet(root: Path) -> None:
    folder, video = root / "scannetv2" / "scene0707_00", _video(_TEST)
    for frame in range(len(video)):
        video.picture(folder / "color_90" / f"frame_{frame:04d}.jpg", frame)
    write_text(folder / "pose_90.txt", _rows(video.poses.reshape(len(video), 16)))


def _tum(root: Path) -> None:
    folder, video = root / "tum" / "rgbd_dataset_freiburg3_sitting_xyz", _video(_TEST)
    for frame in range(len(video)):
        video.picture(folder / "rgb_90" / f"{1341845688 + frame / 30:.6f}.png", frame)
    Trajectory(video.poses).write_tum(folder / "groundtruth_90.txt")


def _seven_scenes(root: Path) -> None:
    write_seven_scenes(root / "7scenes" / "chess", mapped=1, queries=_TEST)


def _neural_rgbd(root: Path) -> None:
    folder = root / "neural_rgbd" / "whiteroom"
    video = _video(2 * _TEST, size=(640, 480), focal=554.2562584)  # no file tells intrinsics
    for frame in range(len(video)):
        video.picture(folder / "images" / f"img{frame}.png", frame)
        video.depth_file(folder / "depth" / f"depth{frame}.png", frame, 1000, 0)
    write_text(folder / "poses.txt", _rows((video.poses @ OPENGL_TO_OPENCV).reshape(-1, 4)))


def _co3d(root: Path) -> None:
    video, sequence, flip = _video(_OBJECT, size=(128, 96)), "110_13051_23361", np.diag([-1, -1, 1])
    rows = []
    for frame, pose in enumerate(video.poses):
        name = f"apple/{sequence}/images/frame{frame + 1:06d}.jpg"
        video.picture(root / "co3d" / name, frame)
        viewmat = flip @ np.asarray(se3_inverse(pose))[:3]  # x to the left, y up
        rows.append({"filepath": name, "R": viewmat[:, :3].T.tolist(), "T": viewmat[:, 3].tolist()})
    content = gzip.compress(to_json({sequence: rows}).encode())
    _write_bytes(root / "co3d_annotations" / "apple_test.jgz", content)


_EVALUATION_SETS: tuple[Callable[[Path], None], ...] = (
    _sintel, _bonn, _kitti, _nyu_v2, _scannet, _tum, _seven_scenes, _neural_rgbd, _co3d,
)  # fmt: skip


def write_evaluation_sets(out: Path) -> None:
    """The nine sets of the evaluation suites, a few frames each."""
    for write in _EVALUATION_SETS:
        write(out)
