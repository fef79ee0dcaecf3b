"""Videos of the toy town in the file layouts of public training sets.

The layouts are those of the processed sets that streaming geometry models train on: a
picture, a depth map and a camera (intrinsics, camera to world) per frame. What a layout says
about names, number formats and units is written out here once more, independently of the
readers in :mod:`mmcity.datasets.sequences.train_layouts`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmcity.toytown.writers.common import save_image
from mmcity.utils.checks import check_choice
from mmcity.utils.dependencies import import_library
from mmcity.utils.fileio import atomic_path, read_numbers, write_json, write_npy, write_npz
from mmcity.utils.picture_files import image_size, read_image

#: Depth that one step of a 16-bit picture stands for, at most, in CO3D files, metres.
CO3D_RANGE = 120.0
#: OmniObject3D scenes have a scale of their own.
OMNIOBJECT_SCALE = 2.5


@dataclass
class Video:
    """Frames of one sequence, and the files that layouts make of them.

    Args:
        index: Number of the sequence.
        K: (3, 3) intrinsics.
        poses: (N, 4, 4) camera to world.
    """

    index: int
    K: np.ndarray
    poses: np.ndarray

    def __len__(self) -> int:
        return len(self.poses)

    def color(self, frame: int) -> np.ndarray:
        """uint8 ``(H, W, 3)``."""
        raise NotImplementedError

    def depth(self, frame: int) -> np.ndarray:
        """float32 ``(H, W)`` metres, 0 where the sky is seen."""
        raise NotImplementedError

    def things(self, frame: int) -> np.ndarray:
        """bool ``(H, W)``, True on objects."""
        raise NotImplementedError

    def picture(self, path: Path, frame: int) -> None:
        """Write the picture as PNG or JPEG."""
        save_image(path, self.color(frame))

    def depth_file(self, path: Path, frame: int, scale: float, sky: int) -> None:
        """Depth times ``scale``; pictures have 16 bits, what does not fit is given as unknown."""
        depth = self.depth(frame)
        if path.suffix == ".png":
            stored = np.round(depth * scale)
            stored = np.where(stored > 65534, 0, stored)
            save_image(path, np.where(depth > 0, stored, sky).astype(np.uint16))
        elif path.suffix == ".npy":
            write_npy(path, depth * np.float32(scale))
        else:
            OpenEXR = import_library("OpenEXR", str(path))
            header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
            with atomic_path(path) as temporary:
                OpenEXR.File(header, {"Y": depth}).write(str(temporary))

    def mask(self, path: Path, frame: int) -> None:
        """Write 255 on objects."""
        save_image(path, (self.things(frame) * 255).astype(np.uint8))


class _TownVideo(Video):
    """One finished sequence of the video format."""

    def __init__(self, folder: Path, index: int) -> None:
        poses = read_numbers(folder / "poses.txt").reshape(-1, 4, 4)
        super().__init__(index, read_numbers(folder / "intrinsics.txt"), poses)
        self.folder = folder

    def color(self, frame: int) -> np.ndarray:
        """See :meth:`Video.color`."""
        return read_image(self.folder / "rgb" / f"{frame:06d}.png")

    def depth(self, frame: int) -> np.ndarray:
        """See :meth:`Video.depth`."""
        return np.load(self.folder / "depth" / f"{frame:06d}.npy").astype(np.float32)

    def things(self, frame: int) -> np.ndarray:
        """See :meth:`Video.things`: what has an instance number."""
        return read_image(self.folder / "instance" / f"{frame:06d}.png", None) > 0


@dataclass(frozen=True)
class _Frames:
    """A layout in which every frame has a picture, a depth map and a camera of its own.

    Attributes:
        folder: Of sequence ``{n}``.
        picture, depth, camera, mask: Files of frame ``{i}`` in it; no masks if empty.
        scale: Of the stored depth, per metre.
        sky: Stored for the sky.
        extra: What every camera file holds, too.
        is_apart: Cameras give rotation and translation apart.
        finish: Writes what stands beside the sequences, in the folder of the layout.
    """

    folder: str
    picture: str
    depth: str
    camera: str
    scale: float = 1.0
    sky: int = 0
    mask: str = ""
    extra: dict = field(default_factory=dict)
    is_apart: bool = False
    finish: Callable[[Path, list[Video]], None] | None = None

    def __call__(self, root: Path, videos: list[Video]) -> None:
        for video in videos:
            folder = root / self.folder.format(n=video.index)
            for i, pose in enumerate(video.poses):
                names = (self.picture, self.depth, self.camera, self.mask)
                picture, depth, camera, mask = (folder / name.format(i=i) for name in names)
                video.picture(picture, i)
                video.depth_file(depth, i, self.scale, self.sky)
                values = {"camera_intrinsics": video.K, "camera_pose": pose}
                if self.is_apart:
                    turn, shift = pose[:3, :3], pose[:3, 3]
                    values = {"intrinsics": video.K, "R_cam2world": turn, "t_cam2world": shift}
                write_npz(camera, **values, **self.extra)
                if self.mask:
                    video.mask(mask, i)
        if self.finish is not None:
            self.finish(root / Path(self.folder).parts[0], videos)


def _selection_file(base: Path, videos: list[Video]) -> None:
    """Frames of each sequence."""
    selected = {f"{video.index:03d}_1_2": list(range(len(video))) for video in videos}
    write_json(base / "selected_seqs_train.json", {"street": selected}, indent=None)


def _indoor(name: str, pictures: str, depths: str, cameras: str) -> Callable:
    """ARKitScenes and ScanNet++: one camera file per scene, with groups of neighbours."""

    def write(root: Path, videos: list[Video]) -> None:
        for video in videos:
            number = f"{40750000 + video.index}"
            folder = root / name / "Training" / number
            names = [f"{number}_{i:05d}.jpg" for i in range(len(video))]
            for i, file in enumerate(names):
                video.picture(folder / pictures / file, i)
                video.depth_file(folder / depths / file.replace(".jpg", ".png"), i, 1000, 0)
            size = image_size(folder / pictures / names[0])
            focal = (video.K[0, 0], video.K[1, 1], video.K[0, 2], video.K[1, 2])
            write_npz(
                folder / cameras,
                images=np.array(names),
                intrinsics=np.tile([*size, *focal], (len(video), 1)),
                trajectories=video.poses,
                image_collection=np.array(_neighbours(len(video)), dtype=object),
            )

    return write


def _neighbours(count: int) -> dict[int, list[tuple[int, float]]]:
    """Image to (other, overlap): of frames of one drive the more, the closer in time."""
    return {i: [(j, 1 / (1 + abs(i - j))) for j in range(count) if j != i] for i in range(count)}


def _overlap_file(base: Path, videos: list[Video]) -> None:
    """Sparse overlap scores of each scene."""
    h5py = import_library("h5py", str(base))
    with (
        atomic_path(base / "new_overlap.h5") as temporary,
        h5py.File(
            temporary,
            "w",
            locking=False,  # atomic_path has locked it
        ) as file,
    ):
        for video in videos:
            pairs = [(i, j, s) for i, row in _neighbours(len(video)).items() for j, s in row]
            scene = file.create_group(f"{video.index:04d}")
            scene["basenames"] = [f"{i:08d}".encode() for i in range(len(video))]
            scene["indices"] = np.array([pair[:2] for pair in pairs])
            scene["values"] = np.array([pair[2] for pair in pairs])
            scene["shape"] = np.array([len(video)] * 2)


def _set_file(base: Path, videos: list[Video]) -> None:
    """One set of all images of each scene."""
    starts = np.cumsum([0, *(len(video) for video in videos)])
    sets = [
        [number, *range(start, start + len(video))]
        for number, (start, video) in enumerate(zip(starts, videos))
    ]
    write_npz(
        base / "megadepth_sets_64.npz",
        scenes=np.array([f"{video.index:04d}" for video in videos]),
        images=np.array([f"{i:08d}" for video in videos for i in range(len(video))]),
        sets=np.array(sets),
    )


_FLAT = ("{i:08d}.jpg", "{i:08d}.exr", "{i:08d}.npz")
_THREE = ("depth/{i:05d}.npy", "cam/{i:05d}.npz")

#: Layout name to a function that writes videos below a root.
TRAINING_LAYOUTS: dict[str, Callable[[Path, list[Video]], None]] = {
    "co3d": _Frames(
        "processed_co3d/street/{n:03d}_1_2",
        *("images/frame{i:06d}.jpg", "depths/frame{i:06d}.jpg.geometric.png"),
        "images/frame{i:06d}.npz",
        scale=65535 / CO3D_RANGE,
        mask="masks/frame{i:06d}.png",
        extra={"maximum_depth": CO3D_RANGE},
        finish=_selection_file,
    ),
    "wildrgbd": _Frames(
        "wildrgbd/street/scenes/scene_{n:03d}",
        *("rgb/{i:05d}.jpg", "depth/{i:05d}.png", "metadata/{i:05d}.npz"),
        scale=1000,
        mask="masks/{i:05d}.png",
    ),
    "arkitscenes": _indoor(
        "processed_arkitscenes", "vga_wide", "lowres_depth", "new_scene_metadata.npz"
    ),
    "arkitscenes_highres": _indoor(
        "processed_arkitscenes_highres", "vga_wide", "highres_depth", "scene_metadata.npz"
    ),
    "scannetpp": _indoor("processed_scannetpp", "images", "depth", "new_scene_metadata.npz"),
    "scannet": _Frames(
        "processed_scannet/scans_train/scene{n:04d}_00",
        *("color/{i:05d}.jpg", "depth/{i:05d}.png", "cam/{i:05d}.npz"),
        scale=1000,
    ),
    "hypersim": _Frames(
        "hypersim/ai_001_{n:03d}/cam_00",
        *("{i:06d}_rgb.png", "{i:06d}_depth.npy", "{i:06d}_cam.npz"),
    ),
    "blendedmvs": _Frames(
        "processed_blendedmvs/{n:04d}", *_FLAT, is_apart=True, finish=_overlap_file
    ),
    "megadepth": _Frames("processed_megadepth/{n:04d}", *_FLAT, is_apart=True, finish=_set_file),
    "waymo": _Frames("waymo/segment-{n:05d}", "{i:05d}_1.jpg", "{i:05d}_1.exr", "{i:05d}_1.npz"),
    "vkitti": _Frames(
        "processed_vkitti/Scene{n:02d}/clone/Camera_0",
        *("{i:05d}_rgb.jpg", "{i:05d}_depth.png", "{i:05d}_cam.npz"),
        scale=100,
        sky=65535,
    ),
    "omniobject3d": _Frames(
        "omniobject3d/train/scene_{n:03d}",
        *("rgb/{i:05d}.png", *_THREE),
        scale=1000 * OMNIOBJECT_SCALE,
        extra={"scale": OMNIOBJECT_SCALE},
    ),
    "spring": _Frames("spring/train/scene_{n:03d}", "rgb/{i:05d}.png", *_THREE),
    "mvs_synth": _Frames("mvs_synth/train/scene_{n:03d}", "rgb/{i:05d}.jpg", *_THREE),
    "point_odyssey": _Frames("point_odyssey/train/scene_{n:03d}", "rgb/{i:05d}.jpg", *_THREE),
}


def write_training_layout(
    layout: str, out: str | os.PathLike, videos: str | os.PathLike
) -> list[Path]:
    """Write videos of the toy town as a public training set lays them out.

    Args:
        layout: A name of :data:`TRAINING_LAYOUTS`.
        out: Data root; the layout makes its own folder below it.
        videos: Folder that :func:`write_video` finished.

    Returns:
        list: Folders of the videos, in the order of the sequences written.

    Raises:
        ValueError: If the layout is unknown.
        FileNotFoundError: If the folder holds no videos.
    """
    check_choice("layout", layout, TRAINING_LAYOUTS)
    folders = sorted(p.parent for p in Path(videos).glob("*/poses.txt"))
    if not folders:
        raise FileNotFoundError(f"{videos}: expected videos of the toy town, found none")
    TRAINING_LAYOUTS[layout](Path(out), [_TownVideo(f, i) for i, f in enumerate(folders)])
    return folders
