"""Index of a video with depth and poses, before its files are read."""

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmcity.utils.dependencies import import_library
from mmcity.utils.fileio import read_arrays
from mmcity.utils.picture_files import read_image

from .overlap import ImageGroups, OverlapGraph
from .sampling import ClipSampling, sample_clip

SINTEL_TAG = 202021.25
K_NAMES = ("intrinsics", "intrinsic", "camera_intrinsics", "K")
POSE_NAMES = ("pose", "cam2world", "camera_pose", "cam_to_world", "c2w")


class SequenceFileError(ValueError):
    """A file of a sequence cannot be used; names the file."""


@dataclass(frozen=True)
class DepthFormat:
    """Conversion of a depth file to metres.

    Attributes:
        scale: Stored number per unit of depth.
        invalid: Stored numbers that mean "no depth".
        minimum: Depths below it are dropped.
        maximum: Depths above it are dropped.
        percentile: Depths above this percentile of the map are dropped.
        sky_from: Depths from here on are sky (given as -1).
    """

    scale: float = 1.0
    invalid: tuple[float, ...] = (0.0,)
    minimum: float = 0.0
    maximum: float = float("inf")
    percentile: float | None = None
    sky_from: float | None = None


@dataclass
class SequenceFrame:
    """One frame: where its files are, and its camera.

    Attributes:
        image: Picture file.
        depth: Depth file, None if there is none.
        cam_to_world: ``(4, 4)``, OpenCV axes, None if unknown.
        K: ``(3, 3)`` in pixels of the picture, None if unknown.
        depth_scale: Divides the depth further (files with a scale of their own).
        mask: Picture that is 0 outside of the object, None if there is none.
    """

    image: Path
    depth: Path | None = None
    cam_to_world: np.ndarray | None = None
    K: np.ndarray | None = None
    depth_scale: float = 1.0
    mask: Path | None = None


@dataclass
class VideoSequence:
    """Frames in the order of time.

    Attributes:
        name: Unique within the data set.
        frames: Files and cameras.
        depth_format: How depth is stored.
        timestamps: Seconds, None if unknown.
        is_metric: Whether depth and poses are in metres.
        sampling: How clips are drawn in training, in the order of time.
        overlap: Which frames see the same things, if clips are drawn by that.
        video: Numbers of the frames that are in the order of time; None for all.
    """

    name: str
    frames: list[SequenceFrame]
    depth_format: DepthFormat = field(default_factory=DepthFormat)
    timestamps: list[float] | None = None
    is_metric: bool = True
    sampling: ClipSampling = field(default_factory=ClipSampling)
    overlap: ImageGroups | OverlapGraph | None = None
    video: list[int] | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def can_fill(self, num_views: int) -> bool:
        """Whether there are clips of so many frames."""
        if self.overlap is not None and not self.overlap.can_fill(num_views):
            return False
        return len(self if self.video is None else self.video) >= num_views

    def draw_clip(self, start: int, num_views: int, rng: np.random.Generator) -> list[int]:
        """Frame numbers of a training clip that begins at or belongs to ``start``."""
        if self.overlap is not None:
            numbers = self.overlap.draw(start, num_views, rng)
            if numbers is not None:
                return numbers
        video = range(len(self)) if self.video is None else self.video
        start = min(start, len(video) - num_views)
        return [video[k] for k in sample_clip(len(video), start, num_views, self.sampling, rng)]


def read_depth(frame: SequenceFrame, form: DepthFormat) -> np.ndarray:
    """Depth map ``(H, W)`` float32 in scene units; 0 = none, -1 = sky."""
    path = frame.depth
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a depth file, found none")
    if path.suffix == ".npy":
        stored = read_arrays(path)["data"]
    elif path.suffix == ".dpt":
        stored = read_sintel_depth(path)
    elif path.suffix == ".exr":
        stored = _read_exr(path)
    else:
        stored = read_image(path, mode=None)
    if stored.ndim != 2:
        raise SequenceFileError(f"{path}: expected an (H, W) depth map, got {stored.shape}")
    stored = stored.astype(np.float32)
    depth = stored / np.float32(form.scale * frame.depth_scale)
    is_bad = ~np.isfinite(depth) | np.isin(stored, form.invalid) | (depth < form.minimum)
    is_bad |= depth > form.maximum
    if form.percentile is not None and (~is_bad).any():
        is_bad |= depth > np.percentile(depth[~is_bad], form.percentile)
    is_sky = np.zeros_like(is_bad)
    if form.sky_from is not None:
        is_sky = depth >= form.sky_from
    depth = np.where(is_bad, 0, depth)
    return np.where(is_sky, -1, depth).astype(np.float32)


def _read_exr(path: Path) -> np.ndarray:
    with import_library("OpenEXR", str(path)).File(str(path)) as file:
        channels = {name: channel.pixels for name, channel in file.channels().items()}
    first = next(iter(channels.values()))
    return first if first.ndim == 2 else first[..., 0]


def read_camera_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Intrinsics ``(3, 3)`` and camera-to-world pose ``(4, 4)`` from an ``.npz`` file."""
    content = read_arrays(path, (*K_NAMES, *POSE_NAMES, "R_cam2world", "t_cam2world"))
    K = next((content[name] for name in K_NAMES if name in content), None)
    pose = next((content[name] for name in POSE_NAMES if name in content), None)
    if pose is None and {"R_cam2world", "t_cam2world"} <= set(content):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = content["R_cam2world"], content["t_cam2world"].ravel()
    names = list(content)
    if K is None or pose is None:
        raise SequenceFileError(
            f"{path}: expected intrinsics ({', '.join(K_NAMES)}) and a camera-to-world pose "
            f"({', '.join(POSE_NAMES)} or R_cam2world and t_cam2world), got {names}"
        )
    out = np.eye(4)
    out[:3] = np.asarray(pose, dtype=np.float64)[:3]
    return np.asarray(K, dtype=np.float64)[:3, :3], out


def read_sintel_depth(path: Path) -> np.ndarray:
    """Depth of the MPI Sintel format: float32 tag, int32 width and height, float32 rows."""
    data = path.read_bytes()
    _check_tag(path, data)
    width, height = struct.unpack("<ii", data[4:12])
    if len(data) != 12 + 4 * width * height:
        raise SequenceFileError(
            f"{path}: expected {width} x {height} numbers, got {len(data)} bytes"
        )
    return np.frombuffer(data, dtype="<f4", offset=12).reshape(height, width)


def read_sintel_camera(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Intrinsics and world-to-camera ``(4, 4)`` of the MPI Sintel format."""
    data = path.read_bytes()
    _check_tag(path, data)
    if len(data) != 4 + 8 * 21:
        raise SequenceFileError(f"{path}: expected 21 float64 numbers, got {len(data)} bytes")
    numbers = np.frombuffer(data, dtype="<f8", offset=4)
    world_to_cam = np.eye(4)
    world_to_cam[:3] = numbers[9:].reshape(3, 4)
    return numbers[:9].reshape(3, 3).copy(), world_to_cam


def _check_tag(path: Path, data: bytes) -> None:
    if len(data) < 12 or struct.unpack("<f", data[:4])[0] != SINTEL_TAG:
        raise SequenceFileError(f"{path}: expected a Sintel file, got no tag {SINTEL_TAG}")
