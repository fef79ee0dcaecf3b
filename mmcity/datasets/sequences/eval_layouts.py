"""File layouts of the streaming benchmarks.

Each function lists the sequences below a data root; frames are paired by name, and a frame
without its counterpart is an error.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmcity.structures import Trajectory
from mmcity.structures.geometry import OPENGL_TO_OPENCV, se3_inverse
from mmcity.utils.checks import count_pairs
from mmcity.utils.fileio import read_json, read_numbers, read_text
from mmcity.utils.picture_names import natural_order

from .frames import DepthFormat, SequenceFileError, SequenceFrame, VideoSequence, read_sintel_camera

SINTEL_POSE_SEQUENCES = (
    *("alley_2", "ambush_4", "ambush_5", "ambush_6", "cave_2", "cave_4", "market_2"),
    *("market_5", "market_6", "shaman_3", "sleeping_1", "sleeping_2", "temple_2", "temple_3"),
)
BONN_SEQUENCES = ("balloon2", "crowd2", "crowd3", "person_tracking2", "synchronous")
SEVEN_SCENES_K = np.array([[525.0, 0, 320], [0, 525, 240], [0, 0, 1]])
MAX_SHIFT = 1e5  # a Co3D pose whose translation sums to more is broken
NRGBD_K = np.array([[554.2562584, 0, 320], [0, 554.2562584, 240], [0, 0, 1]])


def _folders(root: Path, wanted: tuple[str, ...] | None = None) -> list[Path]:
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: expected this folder of the data set, found none")
    found = sorted(p for p in root.iterdir() if p.is_dir())
    if wanted is not None:
        found = [p for p in found if p.name in wanted]
    if not found:
        raise FileNotFoundError(f"{root}: expected sequences, found none")
    return found


def _files(folder: Path, pattern: str) -> list[Path]:
    files = natural_order(folder.glob(pattern)) if folder.is_dir() else []
    if not files:
        raise FileNotFoundError(f"{folder}: expected files {pattern}, found none")
    return files


def _paired(images: list[Path], depths: list[Path], key: Callable[[Path], str]) -> list[Path]:
    """The depth file of each image, by name; a missing or surplus file is an error."""
    by_name = {key(path): path for path in depths}
    lonely = [path.name for path in images if key(path) not in by_name]
    surplus = set(by_name) - {key(path) for path in images}
    if lonely or surplus:
        raise SequenceFileError(
            f"{images[0].parent} and {depths[0].parent}: expected files that pair up by name, "
            f"got images without depth {lonely[:3]}, depths without image {sorted(surplus)[:3]}"
        )
    return [by_name[key(path)] for path in images]


def sintel(root: Path, pose_only: bool = False) -> list[VideoSequence]:
    """MPI Sintel, final pass; with ``pose_only`` the 14 sequences of the pose benchmark."""
    base = root / "sintel" / "training"
    sequences = []
    for folder in _folders(base / "final", SINTEL_POSE_SEQUENCES if pose_only else None):
        images = _files(folder, "frame_*.png")
        depths = _paired(images, _files(base / "depth" / folder.name, "*.dpt"), lambda p: p.stem)
        frames = []
        for image, depth in zip(images, depths):
            camera = base / "camdata_left" / folder.name / f"{image.stem}.cam"
            pose = K = None
            if camera.is_file():
                K, world_to_cam = read_sintel_camera(camera)
                pose = se3_inverse(world_to_cam)
            frames.append(SequenceFrame(image, depth, pose, K))
        sequences.append(VideoSequence(folder.name, frames))
    return sequences


def bonn(root: Path) -> list[VideoSequence]:
    """Bonn RGB-D Dynamic, five sequences of 110 frames; depth / 5000, 0 = none."""
    base = root / "bonn" / "rgbd_bonn_dataset"
    wanted = tuple(f"rgbd_bonn_{name}" for name in BONN_SEQUENCES)
    sequences = []
    for folder in _folders(base, wanted):
        images = _files(folder / "rgb_110", "*.png")
        depths = _files(folder / "depth_110", "*.png")
        # Colour and depth have time stamps of their own; their order pairs them.
        count_pairs(folder, error=SequenceFileError, images=images, depths=depths)
        poses, times = _tum_poses(folder / "groundtruth_110.txt", len(images))
        frames = [SequenceFrame(i, d, p) for i, d, p in zip(images, depths, poses)]
        name = folder.name.removeprefix("rgbd_bonn_")
        sequences.append(VideoSequence(name, frames, DepthFormat(scale=5000.0), times))
    return sequences


def _tum_poses(path: Path, count: int) -> tuple[list[np.ndarray | None], list[float] | None]:
    if not path.is_file():
        return [None] * count, None
    trajectory = Trajectory.read_tum(path)
    count_pairs(path, error=SequenceFileError, images=range(count), poses=trajectory)
    return list(trajectory.poses.numpy()), trajectory.timestamps.tolist()


def kitti(root: Path) -> list[VideoSequence]:
    """KITTI depth selection; depth / 256, 0 = none."""
    base = root / "kitti" / "depth_selection" / "val_selection_cropped"
    sequences = []
    for folder in _folders(base / "image_gathered"):
        images = _files(folder, "*.png")
        depths = _files(base / "groundtruth_depth_gathered" / folder.name, "*.png")
        depths = _paired(images, depths, lambda p: p.stem)
        frames = [SequenceFrame(i, d) for i, d in zip(images, depths)]
        sequences.append(VideoSequence(folder.name, frames, DepthFormat(scale=256.0)))
    return sequences


def nyu_v2(root: Path) -> list[VideoSequence]:
    """NYU Depth v2, single images; the folder may be called ``nyu_v2`` or ``nyu-v2``."""
    base = root / "nyu_v2" if (root / "nyu_v2").is_dir() else root / "nyu-v2"
    images = _files(base / "val" / "nyu_images", "*.png")
    depths = _paired(images, _files(base / "val" / "nyu_depths", "*.npy"), lambda p: p.stem)
    return [VideoSequence("nyu_v2", [SequenceFrame(i, d) for i, d in zip(images, depths)])]


def scannet(root: Path) -> list[VideoSequence]:
    """ScanNet, 90 frames per scene with 12 or 16 numbers per pose line."""
    sequences = []
    for folder in _folders(root / "scannetv2"):
        images = _files(folder / "color_90", "*.jpg")
        rows = read_numbers(folder / "pose_90.txt")
        if rows.shape[1] not in (12, 16):
            raise SequenceFileError(
                f"{folder / 'pose_90.txt'}: expected lines of 12 or 16 numbers, got {rows.shape[1]}"
            )
        count_pairs(folder / "pose_90.txt", error=SequenceFileError, images=images, poses=rows)
        poses = np.tile(np.eye(4), (len(rows), 1, 1))
        poses[:, :3] = rows[:, :12].reshape(-1, 3, 4)
        frames = [SequenceFrame(i, None, p) for i, p in zip(images, poses)]
        sequences.append(VideoSequence(folder.name, frames))
    return sequences


def tum(root: Path) -> list[VideoSequence]:
    """TUM-dynamics, 90 frames per sequence."""
    sequences = []
    for folder in _folders(root / "tum"):
        images = _files(folder / "rgb_90", "*.png")
        poses, times = _tum_poses(folder / "groundtruth_90.txt", len(images))
        frames = [SequenceFrame(i, None, p) for i, p in zip(images, poses)]
        sequences.append(VideoSequence(folder.name, frames, timestamps=times))
    return sequences


def seven_scenes(root: Path, stride: int = 200) -> list[VideoSequence]:
    """7-Scenes test splits, every ``stride``-th frame."""
    form = DepthFormat(scale=1000.0, invalid=(0.0, 65535.0), minimum=1e-3, maximum=10.0)
    sequences = []
    for scene in _folders(root / "7scenes"):
        numbers = [
            int("".join(c for c in line if c.isdigit()))
            for line in read_text(scene / "TestSplit.txt").split()
        ]
        for number in numbers:
            folder = scene / f"seq-{number:02d}"
            images = _files(folder, "frame-*.color.png")[::stride]
            frames = []
            for image in images:
                stem = image.name.removesuffix(".color.png")
                pose = read_numbers(folder / f"{stem}.pose.txt")
                depth = folder / f"{stem}.depth.proj.png"
                frames.append(SequenceFrame(image, depth, pose, SEVEN_SCENES_K))
            sequences.append(VideoSequence(f"{scene.name}/{folder.name}", frames, form))
    return sequences


def neural_rgbd(root: Path, stride: int = 500) -> list[VideoSequence]:
    """Neural RGB-D, every ``min(stride, n // 2)``-th of n frames; OpenGL poses, nan = unknown."""
    form = DepthFormat(scale=1000.0, minimum=1e-3, maximum=10.0)
    sequences = []
    for scene in _folders(root / "neural_rgbd"):
        images = _files(scene / "images", "img*.png")
        poses = read_numbers(scene / "poses.txt").reshape(-1, 4, 4)
        count_pairs(scene / "poses.txt", error=SequenceFileError, images=images, poses=poses)
        step = max(1, min(stride, len(images) // 2))
        frames = [
            SequenceFrame(
                image,
                scene / "depth" / f"depth{_number(image)}.png",
                poses[index] @ OPENGL_TO_OPENCV,
                NRGBD_K,
            )
            for index, image in enumerate(images)
            if index % step == 0 and np.isfinite(poses[index]).all()
        ]
        sequences.append(VideoSequence(scene.name, frames, form))
    return sequences


def _number(path: Path) -> int:
    return int("".join(c for c in path.stem if c.isdigit()))


def co3d_to_opencv(R: Tensor, T: Tensor) -> Tensor:
    """World-to-camera ``(..., 3, 4)`` in OpenCV axes from CO3D's ``R`` (3, 3) and ``T`` (3,).

    CO3D multiplies row vectors and has x to the left and y up.
    """
    flip = R.new_tensor([-1.0, -1.0, 1.0])
    rotation = (R * flip).transpose(-1, -2)
    return torch.cat([rotation, (T * flip)[..., None]], dim=-1)


def co3d(
    root: Path,
    annotations: str = "co3d_annotations",
    min_images: int = 50,
    num_frames: int = 10,
    seed: int = 0,
    max_sequences: int | None = None,
) -> list[VideoSequence]:
    """Co3Dv2 test sequences with ``num_frames`` random frames each.

    Args:
        root: Data root with ``co3d`` and the annotation folder.
        annotations: Folder with ``<category>_test.jgz``: {sequence: [{filepath, R, T}]}.
        min_images: Shorter sequences are left out. Defaults to 50.
        num_frames: Frames drawn without replacement. Defaults to 10.
        seed: Of the draw. Defaults to 0.
        max_sequences: Random sequences per category (the fast evaluation); None for all.
    """
    rng = np.random.default_rng(seed)
    sequences = []
    for file in _files(root / annotations, "*_test.jgz"):
        category = file.name.removesuffix("_test.jgz")
        content = read_json(file)
        names = sorted(content)
        if max_sequences is not None:
            names = [names[i] for i in sorted(rng.permutation(len(names))[:max_sequences])]
        for name in names:
            rows = content[name]
            if len(rows) < min_images or any(np.sum(row["T"]) > MAX_SHIFT for row in rows):
                continue
            frames = []
            for index in rng.choice(len(rows), num_frames, replace=False):
                row = rows[int(index)]
                pose = np.eye(4)
                R, T = (torch.tensor(row[key], dtype=torch.float64) for key in ("R", "T"))
                pose[:3] = co3d_to_opencv(R, T).numpy()
                image = root / "co3d" / row["filepath"]
                frames.append(SequenceFrame(image, None, se3_inverse(pose)))
            sequences.append(VideoSequence(f"{category}/{name}", frames, is_metric=False))
    return sequences


EVAL_LAYOUTS = {
    "sintel": sintel,
    "bonn": bonn,
    "kitti": kitti,
    "nyu_v2": nyu_v2,
    "nyu-v2": nyu_v2,
    "scannet": scannet,
    "tum": tum,
    "7scenes": seven_scenes,
    "neural_rgbd": neural_rgbd,
    "co3d": co3d,
}
