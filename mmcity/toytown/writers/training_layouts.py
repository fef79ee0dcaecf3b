"""Videos of the toy town in the file layouts of public training sets.

The layouts are those of the processed sets that streaming geometry models train on: a
picture, a depth map and a camera (intrinsics, camera to world) per frame. What a layout says
about names, number formats and units is written out here once more, independently of the
readers in :mod:`mmcity.datasets.sequences.train_layouts`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmcity.toytown.writers.common import save_image, save_npy
from mmcity.utils.checks import check_choice
from mmcity.utils.dependencies import import_library
from mmcity.utils.fileio import atomic_path, read_numbers, write_json
from mmcity.utils.picture_files import image_size, read_image

#: Depth that one step of a 16-bit picture stands for, at most, in CO3D files, metres.
CO3D_RANGE = 120.0
#: OmniObject3D scenes have a scale of their own.
OMNIOBJECT_SCALE = 2.5


@dataclass
class _Video:
    """One finished sequence of the video format."""

    folder: Path
    index: int

    def __post_init__(self) -> None:
        self.K = read_numbers(self.folder / "intrinsics.txt")
        self.poses = read_numbers(self.folder / "poses.txt").reshape(-1, 4, 4)

    def __len__(self) -> int:
        return len(self.poses)

    def picture(self, path: Path, frame: int) -> None:
        save_image(path, read_image(self.folder / "rgb" / f"{frame:06d}.png"))

    def depth(self, frame: int) -> np.ndarray:
        """Metres, 0 where the sky is seen."""
        return np.load(self.folder / "depth" / f"{frame:06d}.npy").astype(np.float32)

    def depth_png(self, path: Path, frame: int, per_metre: float, sky: int = 0) -> None:
        """Sixteen bits; what does not fit is given as unknown."""
        depth = self.depth(frame)
        stored = np.round(depth * per_metre)
        stored = np.where(stored > 65534, 0, stored)
        save_image(path, np.where(depth > 0, stored, sky).astype(np.uint16))

    def depth_npy(self, path: Path, frame: int, factor: float = 1.0) -> None:
        save_npy(path, self.depth(frame) * np.float32(factor))

    def depth_exr(self, path: Path, frame: int) -> None:
        OpenEXR = import_library("OpenEXR", str(path))
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        with atomic_path(path) as temporary:
            OpenEXR.File(header, {"Y": self.depth(frame)}).write(str(temporary))

    def mask(self, path: Path, frame: int) -> None:
        """255 on everything that has an instance number."""
        numbers = read_image(self.folder / "instance" / f"{frame:06d}.png", None)
        save_image(path, ((numbers > 0) * 255).astype(np.uint8))

    def camera(self, path: Path, frame: int, **extra) -> None:
        _save_npz(path, camera_intrinsics=self.K, camera_pose=self.poses[frame], **extra)


def _save_npz(path: Path, **arrays) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def _co3d(root: Path, videos: list[_Video]) -> None:
    base, selected = root / "processed_co3d", {}
    for video in videos:
        category, name = "street", f"{video.index:03d}_1_2"
        folder = base / category / name
        for i in range(len(video)):
            stem = f"frame{i:06d}"
            video.picture(folder / "images" / f"{stem}.jpg", i)
            video.camera(folder / "images" / f"{stem}.npz", i, maximum_depth=CO3D_RANGE)
            depth = folder / "depths" / f"{stem}.jpg.geometric.png"
            video.depth_png(depth, i, 65535 / CO3D_RANGE)
            video.mask(folder / "masks" / f"{stem}.png", i)
        selected.setdefault(category, {})[name] = list(range(len(video)))
    write_json(base / "selected_seqs_train.json", selected, indent=None)


def _wildrgbd(root: Path, videos: list[_Video]) -> None:
    for video in videos:
        folder = root / "wildrgbd" / "street" / "scenes" / f"scene_{video.index:03d}"
        for i in range(len(video)):
            video.picture(folder / "rgb" / f"{i:05d}.jpg", i)
            video.depth_png(folder / "depth" / f"{i:05d}.png", i, 1000)
            video.camera(folder / "metadata" / f"{i:05d}.npz", i)
            video.mask(folder / "masks" / f"{i:05d}.png", i)


def _indoor(name: str, pictures: str, depths: str, cameras: str) -> Callable:
    """ARKitScenes and ScanNet++: one camera file per scene, with groups of neighbours."""

    def write(root: Path, videos: list[_Video]) -> None:
        for video in videos:
            number = f"{40750000 + video.index}"
            folder = root / name / "Training" / number
            names = [f"{number}_{i:05d}.jpg" for i in range(len(video))]
            for i, file in enumerate(names):
                video.picture(folder / pictures / file, i)
                video.depth_png(folder / depths / file.replace(".jpg", ".png"), i, 1000)
            size = image_size(folder / pictures / names[0])
            focal = (video.K[0, 0], video.K[1, 1], video.K[0, 2], video.K[1, 2])
            _save_npz(
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


def _scannet(root: Path, videos: list[_Video]) -> None:
    for video in videos:
        folder = root / "processed_scannet" / "scans_train" / f"scene{video.index:04d}_00"
        for i in range(len(video)):
            video.picture(folder / "color" / f"{i:05d}.jpg", i)
            video.depth_png(folder / "depth" / f"{i:05d}.png", i, 1000)
            video.camera(folder / "cam" / f"{i:05d}.npz", i)


def _hypersim(root: Path, videos: list[_Video]) -> None:
    for video in videos:
        folder = root / "hypersim" / f"ai_001_{video.index:03d}" / "cam_00"
        for i in range(len(video)):
            video.picture(folder / f"{i:06d}_rgb.png", i)
            video.depth_npy(folder / f"{i:06d}_depth.npy", i)
            video.camera(folder / f"{i:06d}_cam.npz", i)


def _collection(name: str, describe: Callable[[Path, list[_Video]], None]) -> Callable:
    """BlendedMVS and MegaDepth: rotation and translation apart.

    Args:
        name: Of the folder.
        describe: Writes the file that tells which images belong together.
    """

    def write(root: Path, videos: list[_Video]) -> None:
        for video in videos:
            folder = root / name / f"{video.index:04d}"
            for i in range(len(video)):
                video.picture(folder / f"{i:08d}.jpg", i)
                video.depth_exr(folder / f"{i:08d}.exr", i)
                pose = video.poses[i]
                _save_npz(
                    folder / f"{i:08d}.npz",
                    intrinsics=video.K,
                    R_cam2world=pose[:3, :3],
                    t_cam2world=pose[:3, 3],
                )
        describe(root / name, videos)

    return write


def _overlap_file(base: Path, videos: list[_Video]) -> None:
    """Sparse overlap scores of each scene."""
    h5py = import_library("h5py", str(base))
    with atomic_path(base / "new_overlap.h5") as temporary, h5py.File(temporary, "w") as file:
        for video in videos:
            pairs = [(i, j, s) for i, row in _neighbours(len(video)).items() for j, s in row]
            scene = file.create_group(f"{video.index:04d}")
            scene["basenames"] = [f"{i:08d}".encode() for i in range(len(video))]
            scene["indices"] = np.array([pair[:2] for pair in pairs])
            scene["values"] = np.array([pair[2] for pair in pairs])
            scene["shape"] = np.array([len(video)] * 2)


def _set_file(base: Path, videos: list[_Video]) -> None:
    """One set of all images of each scene."""
    starts = np.cumsum([0, *(len(video) for video in videos)])
    sets = [
        [number, *range(start, start + len(video))]
        for number, (start, video) in enumerate(zip(starts, videos))
    ]
    _save_npz(
        base / "megadepth_sets_64.npz",
        scenes=np.array([f"{video.index:04d}" for video in videos]),
        images=np.array([f"{i:08d}" for video in videos for i in range(len(video))]),
        sets=np.array(sets),
    )


def _waymo(root: Path, videos: list[_Video]) -> None:
    for video in videos:
        folder, camera = root / "waymo" / f"segment-{video.index:05d}", 1
        for i in range(len(video)):
            video.picture(folder / f"{i:05d}_{camera}.jpg", i)
            video.depth_exr(folder / f"{i:05d}_{camera}.exr", i)
            video.camera(folder / f"{i:05d}_{camera}.npz", i)


def _vkitti(root: Path, videos: list[_Video]) -> None:
    for video in videos:
        scene = f"Scene{video.index:02d}"
        folder = root / "processed_vkitti" / scene / "clone" / "Camera_0"
        for i in range(len(video)):
            video.picture(folder / f"{i:05d}_rgb.jpg", i)
            video.depth_png(folder / f"{i:05d}_depth.png", i, 100, sky=65535)
            video.camera(folder / f"{i:05d}_cam.npz", i)


def _triple(name: str, suffix: str, scale: float | None = None) -> Callable:
    """Folders rgb, depth and cam in every scene."""

    def write(root: Path, videos: list[_Video]) -> None:
        for video in videos:
            folder = root / name / "train" / f"scene_{video.index:03d}"
            extra = {} if scale is None else {"scale": scale}
            factor = 1.0 if scale is None else 1000.0 * scale
            for i in range(len(video)):
                video.picture(folder / "rgb" / f"{i:05d}.{suffix}", i)
                video.depth_npy(folder / "depth" / f"{i:05d}.npy", i, factor)
                video.camera(folder / "cam" / f"{i:05d}.npz", i, **extra)

    return write


#: Layout name to a function that writes videos below a root.
TRAINING_LAYOUTS: dict[str, Callable[[Path, list[_Video]], None]] = {
    "co3d": _co3d,
    "wildrgbd": _wildrgbd,
    "arkitscenes": _indoor(
        "processed_arkitscenes", "vga_wide", "lowres_depth", "new_scene_metadata.npz"
    ),
    "arkitscenes_highres": _indoor(
        "processed_arkitscenes_highres", "vga_wide", "highres_depth", "scene_metadata.npz"
    ),
    "scannetpp": _indoor("processed_scannetpp", "images", "depth", "new_scene_metadata.npz"),
    "scannet": _scannet,
    "hypersim": _hypersim,
    "blendedmvs": _collection("processed_blendedmvs", _overlap_file),
    "megadepth": _collection("processed_megadepth", _set_file),
    "waymo": _waymo,
    "vkitti": _vkitti,
    "omniobject3d": _triple("omniobject3d", "png", OMNIOBJECT_SCALE),
    "spring": _triple("spring", "png"),
    "mvs_synth": _triple("mvs_synth", "jpg"),
    "point_odyssey": _triple("point_odyssey", "jpg"),
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
    TRAINING_LAYOUTS[layout](Path(out), [_Video(f, i) for i, f in enumerate(folders)])
    return folders
