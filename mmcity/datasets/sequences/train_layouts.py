"""File layouts of the training sets of the streaming geometry models.

All are the processed form that CUT3R-style training uses: per frame a picture, a depth map
and a camera file with intrinsics and a camera-to-world pose.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from mmcity.datasets.io.info_pickle import load_plain_npz
from mmcity.utils.checks import count_pairs
from mmcity.utils.dependencies import import_library
from mmcity.utils.fileio import read_arrays, read_json
from mmcity.utils.picture_names import natural_order

from .frames import DepthFormat, SequenceFileError, SequenceFrame, VideoSequence, read_camera_npz
from .overlap import ImageGroups, OverlapGraph
from .sampling import ClipSampling

MILLIMETRES = DepthFormat(scale=1000.0)


@dataclass(frozen=True)
class TrainLayout:
    """One data set on disk.

    File names of a frame follow from the stem of its picture: ``{stem}`` in ``depth``,
    ``camera`` and ``mask``, relative to the scene folder.

    Attributes:
        root: Folder below the data root.
        images: Pattern of the pictures, relative to the scene folder.
        depth: Depth file of a frame.
        camera: Camera file of a frame; empty if ``scene_cameras`` holds all of a scene.
        depth_format: How depth is stored.
        is_metric: Whether depth is in metres.
        clips: Clips per epoch in the published mixture.
        sampling: How clips are drawn.
        stem: Picture name to stem, for suffixes such as ``_rgb``.
        scene_cameras: Files tried for cameras of a whole scene.
        mask: Object mask of a frame, applied to depth with the probability of the mixture.
        group: Splits the pictures of one folder into sequences by a part of the name.
        skipped_groups: Groups left out.
        max_intervals: Longest sampling interval of a group, where it differs.
        select: Lists the scene folders; None looks for folders with pictures.
        overlap: Reads which frames of a scene see the same things, from (scene folder, stems).
        video: Start of the names of the frames that are in the order of time, if others lie
            beside them.
        sets: File of fixed sets of images, each a sequence of its own.
    """

    root: str
    images: str
    depth: str
    camera: str = ""
    depth_format: DepthFormat = field(default_factory=DepthFormat)
    is_metric: bool = True
    clips: int = 2250
    sampling: ClipSampling = field(default_factory=ClipSampling)
    stem: Callable[[str], str] = lambda name: name.rsplit(".", 1)[0]
    scene_cameras: Sequence[str] = ()
    mask: str | None = None
    group: Callable[[str], str] | None = None
    skipped_groups: Sequence[str] = ()
    max_intervals: dict = field(default_factory=dict)
    select: Callable[[Path], list[Path]] | None = None
    overlap: Callable[[Path, list[str]], ImageGroups | OverlapGraph] | None = None
    video: str = ""
    sets: str = ""

    def scenes(self, data_root: Path) -> list[Path]:
        """Scene folders below ``data_root``."""
        base = Path(data_root) / self.root
        if not base.is_dir():
            raise FileNotFoundError(f"{base}: expected this folder of the data set, found none")
        if self.select is not None:
            return self.select(base)
        depth = len(Path(self.images).parts)
        found = {p.parents[depth - 1] for p in base.rglob(self.images)}
        if not found:
            raise FileNotFoundError(f"{base}: expected scenes with {self.images}, found none")
        return sorted(found)

    def sequences(self, data_root: Path, use_overlap: bool = True) -> list[VideoSequence]:
        """All sequences, frames sorted by name.

        Args:
            data_root: Folder that holds the layout's folder.
            use_overlap: Draw clips by the overlap of the images, where the published recipe
                does so; the files that tell it must be there. Defaults to True; False draws
                them from the ordered images.
        """
        base = Path(data_root) / self.root
        if self.sets and use_overlap:
            return self._set_sequences(base)
        out = []
        for scene in self.scenes(data_root):
            cameras = self._scene_cameras(scene)
            groups: dict[str, list[SequenceFrame]] = {}
            for image in natural_order(scene.glob(self.images)):
                group = self.group(image.name) if self.group else ""
                if group in self.skipped_groups:
                    continue
                groups.setdefault(group, []).append(self._frame(scene, image, cameras))
            for group, frames in groups.items():
                name = str(scene.relative_to(base)) + (f"/{group}" if group else "")
                sampling = self.sampling
                if group in self.max_intervals:
                    sampling = replace(sampling, max_interval=self.max_intervals[group])
                sequence = VideoSequence(
                    name, frames, self.depth_format, None, self.is_metric, sampling
                )
                if self.overlap is not None and use_overlap:
                    stems = [self.stem(frame.image.name) for frame in frames]
                    sequence.overlap = self.overlap(scene, stems)
                if self.video:
                    named = [frame.image.name.startswith(self.video) for frame in frames]
                    sequence.video = np.flatnonzero(named).tolist() if any(named) else None
                out.append(sequence)
        return out

    def _set_sequences(self, base: Path) -> list[VideoSequence]:
        """One sequence per set; a set is a row of the scene's number and image numbers."""
        path = base / self.sets
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected the sets of images, found none: {_WITHOUT}")
        scenes, images = (load_plain_npz(path, name) for name in ("scenes", "images"))
        known: dict[Path, SequenceFrame] = {}
        out = []
        for index, (scene, *members) in enumerate(load_plain_npz(path, "sets")):
            folder = base.joinpath(*str(scenes[scene]).split())
            frames = []
            for member in members:
                image = folder / f"{images[member]}{Path(self.images).suffix}"
                if image not in known:
                    known[image] = self._frame(folder, image, {})
                frames.append(known[image])
            name = f"{folder.relative_to(base)}/set{index}"
            everything = ImageGroups([range(len(frames))])
            out.append(
                VideoSequence(
                    name, frames, self.depth_format, None, self.is_metric, overlap=everything
                )
            )
        return out

    def _frame(self, scene: Path, image: Path, cameras: dict) -> SequenceFrame:
        stem = self.stem(image.name)
        frame = SequenceFrame(image, scene / self.depth.format(stem=stem))
        if self.mask is not None:
            frame.mask = scene / self.mask.format(stem=stem)
        if self.camera:
            path = scene / self.camera.format(stem=stem)
            frame.K, frame.cam_to_world = read_camera_npz(path)
            frame.depth_scale = _extra_scale(path)
        elif stem in cameras:
            frame.K, frame.cam_to_world = cameras[stem]
        else:
            raise SequenceFileError(f"{scene}: expected a camera for {image.name}, got none")
        return frame

    def _scene_cameras(self, scene: Path) -> dict:
        if not self.scene_cameras:
            return {}
        path = next((scene / n for n in self.scene_cameras if (scene / n).is_file()), None)
        if path is None:
            raise FileNotFoundError(f"{scene}: expected one of {list(self.scene_cameras)}")
        keys = ("images", "intrinsics", "trajectories")
        content = read_arrays(path, keys)
        if lacking := set(keys) - set(content):
            raise SequenceFileError(
                f"{path}: expected arrays {sorted(lacking)} too, got {sorted(content)}"
            )
        names, rows, poses = (content[key] for key in keys)
        count_pairs(path, images=names, intrinsics=rows, trajectories=poses)
        if rows.ndim == 2:  # width, height, fx, fy, cx, cy
            Ks = np.tile(np.eye(3), (len(rows), 1, 1))
            Ks[:, 0, 0], Ks[:, 1, 1], Ks[:, 0, 2], Ks[:, 1, 2] = rows[:, 2:6].T
        else:
            Ks = rows[:, :3, :3]
        stems = [self.stem(str(name)) for name in names]
        return {stem: (K, pose) for stem, K, pose in zip(stems, Ks, poses)}


_WITHOUT = "with use_overlap=False clips are drawn from the ordered images instead"


def _image_collection(
    file: str, share: float, nearest: tuple[float, float] | None = None
) -> Callable[[Path, list[str]], ImageGroups]:
    """Groups ``{image: [(other, overlap), ...]}`` in the camera file of a scene."""

    def read(scene: Path, stems: list[str]) -> ImageGroups:
        path = scene / file
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected groups of images, got none: {_WITHOUT}")
        try:
            collection = load_plain_npz(path, "image_collection")
        except KeyError as error:
            raise SequenceFileError(f"{path}: expected image_collection: {_WITHOUT}") from error
        position = {stem: number for number, stem in enumerate(stems)}
        names = [Path(str(name)).stem for name in load_plain_npz(path, "images")]
        groups: list[list[int]] = [[number] for number in range(len(stems))]
        for image, others in collection.items():
            if names[image] not in position:
                continue
            ranked = sorted(others, key=lambda other: -other[1])
            found = [position[names[int(k)]] for k, _ in ranked if names[int(k)] in position]
            first = position[names[image]]
            groups[first] = [first, *(number for number in found if number != first)]
        return ImageGroups(groups, share, nearest)

    return read


def _overlap_scores(file: str) -> Callable[[Path, list[str]], OverlapGraph]:
    """Sparse scores of each scene in an HDF5 file beside the scenes."""

    def read(scene: Path, stems: list[str]) -> OverlapGraph:
        path = scene.parent / file
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected the images' overlap, got none: {_WITHOUT}")
        with import_library("h5py", str(path)).File(path) as content:
            if scene.name not in content:
                raise SequenceFileError(
                    f"{path}: expected scene {scene.name}, got none: {_WITHOUT}"
                )
            group = content[scene.name]
            names = [name.decode() for name in group["basenames"][:]]
            rows, values = group["indices"][:], group["values"][:]
        scores = np.zeros((len(stems), len(stems)))
        position = {stem: number for number, stem in enumerate(stems)}
        for (one, other), value in zip(rows, values):
            if names[one] in position and names[other] in position:
                scores[position[names[one]], position[names[other]]] = value
        return OverlapGraph(scores)

    return read


def _extra_scale(path: Path) -> float:
    """Divisor of the depth that some camera files carry."""
    content = read_arrays(path, ("scale", "maximum_depth"))
    if "scale" in content:
        return float(content["scale"])
    if "maximum_depth" in content:  # stored values span 0 .. maximum_depth
        return 65535.0 / float(content["maximum_depth"])
    return 1.0


def _selected(file: str) -> Callable[[Path], list[Path]]:
    """Scenes listed in a file {category: {sequence: frames}}."""

    def select(base: Path) -> list[Path]:
        content = read_json(base / file)
        return sorted(base / category / name for category in content for name in content[category])

    return select


def _without(suffix: str) -> Callable[[str], str]:
    return lambda name: name.removesuffix(suffix)


_THREE = {"images": "rgb/*.png", "depth": "depth/{stem}.npy", "camera": "cam/{stem}.npz"}
_FLAT = {"images": "*.jpg", "depth": "{stem}.exr", "camera": "{stem}.npz"}
_ALWAYS_VIDEO = ClipSampling(4, 1.0, 1.0)

_object_clips = partial(
    TrainLayout, clips=4500, sampling=ClipSampling(25, 0.5, 0.5), mask="masks/{stem}.png"
)
_indoor_clips = partial(
    TrainLayout,
    depth_format=MILLIMETRES,
    scene_cameras=("new_scene_metadata.npz", "scene_metadata.npz"),
)

TRAIN_LAYOUTS = {
    "co3d": _object_clips(
        "processed_co3d",
        *("images/*.jpg", "depths/{stem}.jpg.geometric.png", "images/{stem}.npz"),
        is_metric=False,
        select=_selected("selected_seqs_train.json"),
    ),
    "wildrgbd": _object_clips(
        "wildrgbd", "rgb/*.jpg", "depth/{stem}.png", "metadata/{stem}.npz", MILLIMETRES
    ),
    "arkitscenes": _indoor_clips(
        *("processed_arkitscenes", "vga_wide/*.jpg", "lowres_depth/{stem}.png"),
        clips=4500,
        sampling=ClipSampling(8, 0.8, 0.5, 16),
        overlap=_image_collection("new_scene_metadata.npz", share=0.5),
    ),
    "arkitscenes_highres": _indoor_clips(
        *("processed_arkitscenes_highres", "vga_wide/*.jpg", "highres_depth/{stem}.png"),
        sampling=ClipSampling(8, 0.5, 0.5, 16),
        scene_cameras=("scene_metadata.npz",),
    ),
    "scannetpp": _indoor_clips(
        *("processed_scannetpp", "images/*.jpg", "depth/{stem}.png"),
        sampling=ClipSampling(3, 0.8, 0.5, 16),
        overlap=_image_collection("new_scene_metadata.npz", share=0.3, nearest=(2.0, 4.0)),
        video="frame_",
    ),
    "scannet": TrainLayout(
        "processed_scannet/scans_train",
        *("color/*.jpg", "depth/{stem}.png", "cam/{stem}.npz", MILLIMETRES),
        clips=4500,
        sampling=ClipSampling(30, 0.6, 0.6, 16),
    ),
    "hypersim": TrainLayout(
        *("hypersim", "*rgb.png", "{stem}depth.npy", "{stem}cam.npz"),
        clips=1200,
        sampling=ClipSampling(4, 0.5, 0.5, 16),
        stem=_without("rgb.png"),
    ),
    "blendedmvs": TrainLayout(
        "processed_blendedmvs", **_FLAT, is_metric=False, overlap=_overlap_scores("new_overlap.h5")
    ),
    "megadepth": TrainLayout(
        "processed_megadepth",
        **_FLAT,
        is_metric=False,
        sampling=ClipSampling(64, 0.0, 0.0),
        sets="megadepth_sets_64.npz",
    ),
    "waymo": TrainLayout(
        "waymo",
        **_FLAT,
        sampling=ClipSampling(8, 0.9, 0.9, 16),
        group=lambda name: name.rsplit(".", 1)[0].rsplit("_", 1)[-1],
        skipped_groups=("5",),
        max_intervals={"4": 4},
    ),
    "vkitti": TrainLayout(
        *("processed_vkitti", "*_rgb.jpg", "{stem}_depth.png", "{stem}_cam.npz"),
        DepthFormat(scale=100.0, sky_from=655.0),
        sampling=ClipSampling(5, 1.0, 0.9),
        stem=_without("_rgb.jpg"),
    ),
    "omniobject3d": TrainLayout(
        "omniobject3d",
        **_THREE,
        depth_format=DepthFormat(scale=1000.0),
        is_metric=False,
        clips=1800,
        sampling=ClipSampling(100, 0.0, 0.5),
    ),
    "spring": TrainLayout("spring", **_THREE, clips=1800, sampling=ClipSampling(16, 1.0, 1.0)),
    "mvs_synth": TrainLayout(
        "mvs_synth",
        **{**_THREE, "images": "rgb/*.jpg"},
        depth_format=DepthFormat(maximum=1000.0, percentile=98.0),
        is_metric=False,
        clips=450,
        sampling=_ALWAYS_VIDEO,
    ),
    "point_odyssey": TrainLayout(
        "point_odyssey",
        **{**_THREE, "images": "rgb/*.jpg"},
        depth_format=DepthFormat(maximum=1000.0),
        sampling=_ALWAYS_VIDEO,
    ),
}
