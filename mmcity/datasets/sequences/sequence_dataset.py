"""Whole sequences for evaluation, and clips of several data sets for training."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import get_dist_info
from PIL import Image
from torch.utils.data import Dataset, Sampler

from mmcity.datasets.transforms.network_images import (
    crop_around_principal_point,
    image_to_tensor,
    load_eval_image,
    load_network_image,
)
from mmcity.registry import DATA_SAMPLERS, DATASETS
from mmcity.structures import Cameras, SequenceDataSample, Trajectory
from mmcity.structures.geometry import se3_inverse
from mmcity.structures.world_offset import world_offset
from mmcity.utils.checks import check_choice
from mmcity.utils.picture_files import read_image, read_mask

from .color_jitter import ClipColorJitter
from .eval_layouts import EVAL_LAYOUTS
from .frames import SequenceFrame, VideoSequence, read_depth
from .posed_video import posed_video
from .sampling import assemble_epoch
from .toytown_video import toytown_video
from .train_layouts import TRAIN_LAYOUTS

#: Layouts for evaluation and training alike.
VIDEO_LAYOUTS = {"toytown": toytown_video, "posed_video": posed_video}


def list_sequences(
    layout: str, data_root: str | os.PathLike, purpose: str = "eval", **kwargs
) -> list[VideoSequence]:
    """Sequences of a named layout below a data root.

    Args:
        layout: ``'toytown'``, ``'posed_video'`` or a name of the purpose's layouts.
        data_root: Folder that holds the layout's folder.
        purpose: ``'eval'`` or ``'train'``; some names exist in both. Layouts of training that
            evaluation does not know serve it too.
        **kwargs: Arguments of the layout's function.
    """
    root = Path(data_root)
    if layout in VIDEO_LAYOUTS:
        return VIDEO_LAYOUTS[layout](root, **kwargs)
    if purpose == "eval" and layout in EVAL_LAYOUTS:
        return EVAL_LAYOUTS[layout](root, **kwargs)
    if layout in TRAIN_LAYOUTS:
        return TRAIN_LAYOUTS[layout].sequences(root, **kwargs)
    names = sorted({*VIDEO_LAYOUTS, *TRAIN_LAYOUTS, *(EVAL_LAYOUTS if purpose == "eval" else ())})
    raise ValueError(f"layout: expected one of {names}, got {layout!r}")


def _picture(frame: SequenceFrame) -> Image.Image:
    return Image.fromarray(read_image(frame.image, upright=True))


@DATASETS.register_module()
class EvalSequenceDataset(Dataset):
    """One item per sequence: network images beside ground truth at its own size.

    An item is ``dict(inputs=dict(images=(S, 3, h, w)), data_samples=SequenceDataSample)``;
    the sample has ``gt_depths`` (S, H, W), ``trajectory``, and ``cameras`` at the size of the
    pictures, as far as the layout knows them; metainfo ``dataset``, ``sequence``,
    ``img_names``, ``ori_shape``, ``img_shape``.

    Args:
        layout: ``sintel, bonn, kitti, nyu_v2, scannet, tum, 7scenes, neural_rgbd, co3d``,
            ``toytown``, ``posed_video`` or, of training, ``arkitscenes`` and the like.
        data_root: Folder that holds the layout's folders.
        resize: ``'eval'`` (depth suites), ``'crop'`` or ``'pad'`` (demo, Co3D) or
            ``'principal_point'`` (reconstruction; resamples depth and cameras too).
            Defaults to ``'eval'``.
        image_size: Longest side, or (height, width) with ``'principal_point'``.
            Defaults to 518.
        patch_size: Sides are multiples of it. Defaults to 14.
        max_frames: Frames taken from the start of a sequence. Defaults to all.
        frame_stride: Every n-th frame is taken. Defaults to 1.
        max_sequences: Sequences taken. Defaults to all.
        per_frame: Make every frame an item of its own (monocular suites).
            Defaults to False.
        **layout_args: Further arguments of the layout's function.
    """

    def __init__(
        self,
        layout: str,
        data_root: str,
        resize: str = "eval",
        image_size: int | Sequence[int] = 518,
        patch_size: int = 14,
        max_frames: int | None = None,
        max_sequences: int | None = None,
        per_frame: bool = False,
        frame_stride: int = 1,
        **layout_args,
    ) -> None:
        check_choice("resize", resize, ("eval", "crop", "pad", "principal_point"))
        self.layout, self.resize = layout, resize
        self.image_size, self.patch_size = image_size, patch_size
        sequences = list_sequences(layout, data_root, **layout_args)[:max_sequences]
        self.items: list[tuple[VideoSequence, list[int]]] = []
        for sequence in sequences:
            numbers = list(range(0, len(sequence), frame_stride))[:max_frames]
            self.items += [(sequence, [n]) for n in numbers] if per_frame else [(sequence, numbers)]
        self.metainfo = {"dataset": layout}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict:
        sequence, numbers = self.items[index]
        frames = [sequence.frames[number] for number in numbers]
        images, depths, Ks, size = [], [], [], None
        for frame in frames:
            picture = _picture(frame)
            depth = None if frame.depth is None else read_depth(frame, sequence.depth_format)
            K = frame.K
            if self.resize == "principal_point":
                picture, depth, K = crop_around_principal_point(picture, depth, K, self.image_size)
                images.append(image_to_tensor(picture))
            elif self.resize == "eval":
                images.append(load_eval_image(picture, self.image_size, self.patch_size))
            else:
                images.append(
                    load_network_image(picture, self.resize, self.image_size, self.patch_size)
                )
            depths.append(depth)
            Ks.append(K)
            size = (picture.height, picture.width)
        times = None if sequence.timestamps is None else [sequence.timestamps[n] for n in numbers]
        poses = [frame.cam_to_world for frame in frames]
        sample = make_sample(poses, Ks, depths, size, times, validate=False)
        sample.set_metainfo(
            {
                "dataset": self.layout,
                "sequence": sequence.name,
                "img_names": [f.image.stem for f in frames],
                "frame_numbers": numbers,
                "ori_shape": size,
                "img_shape": tuple(images[0].shape[-2:]),
                "is_metric": sequence.is_metric,
            }
        )
        return {"inputs": {"images": torch.stack(images)}, "data_samples": sample}


def make_sample(
    poses: Sequence[np.ndarray | None],
    Ks: Sequence[np.ndarray | None],
    depths: Sequence[np.ndarray | None],
    size: Sequence[int],
    timestamps: Sequence[float] | None = None,
    validate: bool = True,
) -> SequenceDataSample:
    """Ground truth of frames; what is not known of every frame is left out.

    Without ``validate`` single poses may be unknown (not finite), which evaluations leave out.
    Poses that lie far from the origin are given about their own, see
    :func:`~mmcity.structures.world_offset.world_offset`.
    """
    sample = SequenceDataSample()
    if all(depth is not None for depth in depths):
        sample.gt_depths = torch.from_numpy(np.stack(depths))
    if all(pose is not None for pose in poses):
        stacked = torch.from_numpy(_about_the_origin(np.stack(poses)))
        sample.trajectory = Trajectory(stacked, timestamps, validate)
        if all(K is not None for K in Ks):
            Ks = torch.from_numpy(np.stack(Ks)).float()
            sample.cameras = Cameras(
                Ks, se3_inverse(stacked).float(), size[1], size[0], validate=False
            )
    return sample


def _about_the_origin(poses: np.ndarray) -> np.ndarray:
    """Poses ``(N, 4, 4)`` float64 of a clip that single precision can hold."""
    poses = poses.astype(np.float64)
    centers = poses[:, :3, 3]
    known = centers[np.isfinite(centers).all(1)]
    if len(known):
        poses[:, :3, 3] -= world_offset(known, known[:0])[0]
    return poses


@DATASETS.register_module()
class ClipDataset(Dataset):
    """Clips of one data set.

    An index is the number of a first frame, or ``(number, resolution, draw)`` from
    :class:`MixtureSampler`; what is random follows from these numbers and the seed, so that
    a resumed run sees the same clips. The item is
    that of :class:`EvalSequenceDataset`, with cameras and depth at the size of the images.

    Args:
        layout: A training layout, ``'toytown'`` or ``'posed_video'``.
        data_root: Folder that holds the layout's folder.
        num_views: Frames per clip. Defaults to 10.
        resolutions: (width, height) pairs. Defaults to ``((518, 392),)``.
        clips: Clips per epoch. Defaults to the published number, else one per sequence.
        crop_jitter: Pixels by which the last crop may be larger, drawn per frame.
            Defaults to 15; 0 for none.
        color_jitter: Change colours, once per clip. Defaults to True.
        mask_probability: Of setting depth outside of the object to none, where the layout
            has masks. Defaults to 0.1.
        mirror_probability: Of seeing the whole clip in a mirror, left and right exchanged.
            Defaults to 0.
        patch_size: Resolutions must be multiples of it. Defaults to 14.
        seed: Of all random choices. Defaults to 0.
        **layout_args: Further arguments of the layout's function.
    """

    def __init__(
        self,
        layout: str,
        data_root: str,
        num_views: int = 10,
        resolutions: Sequence[Sequence[int]] = ((518, 392),),
        clips: int | None = None,
        crop_jitter: int = 15,
        color_jitter: bool = True,
        mask_probability: float = 0.1,
        mirror_probability: float = 0.0,
        patch_size: int = 14,
        seed: int = 0,
        **layout_args,
    ) -> None:
        bad = [tuple(r) for r in resolutions if any(side % patch_size for side in r)]
        if bad:
            raise ValueError(f"resolutions: expected multiples of {patch_size}, got {bad}")
        sequences = list_sequences(layout, data_root, "train", **layout_args)
        self.sequences = [s for s in sequences if s.can_fill(num_views)]
        if not self.sequences:
            raise ValueError(
                f"{data_root}: expected {num_views} frames a sequence of {layout}, got fewer"
            )
        known = TRAIN_LAYOUTS.get(layout)
        self.layout, self.num_views = layout, num_views
        self.resolutions = [tuple(r) for r in resolutions]
        self.clips = clips or (known.clips if known else len(self.sequences))
        self.crop_jitter, self.mask_probability, self.seed = crop_jitter, mask_probability, seed
        self.mirror_probability = mirror_probability
        self.color_jitter = ClipColorJitter() if color_jitter else None
        self.starts = [(i, start) for i, s in enumerate(self.sequences) for start in range(len(s))]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int | tuple[int, int, int]) -> dict:
        number, resolution, draw = index if isinstance(index, tuple) else (index, 0, 0)
        rng = np.random.default_rng((self.seed, number, draw))
        which, start = self.starts[number]
        sequence = self.sequences[which]
        numbers = sequence.draw_clip(start, self.num_views, rng)
        width, height = self.resolutions[resolution]
        colors = None if self.color_jitter is None else self.color_jitter.draw(rng)
        use_mask = rng.random() < self.mask_probability
        images, depths, Ks, frames = [], [], [], []
        for frame in (sequence.frames[n] for n in numbers):
            picture, depth = _picture(frame), read_depth(frame, sequence.depth_format)
            if frame.mask is not None and use_mask:
                depth = np.where(read_mask(frame.mask), depth, 0)
            if depth.shape != (picture.height, picture.width):
                depth = resize_nearest(depth, picture.height, picture.width)
            margin = int(rng.integers(0, self.crop_jitter + 1))
            picture, depth, K = crop_around_principal_point(
                picture, depth, frame.K, (height, width), margin
            )
            image = image_to_tensor(picture)
            images.append(image if colors is None else self.color_jitter.apply(image, colors))
            depths.append(np.ascontiguousarray(depth))
            Ks.append(K)
            frames.append(frame)
        poses, stacked = [f.cam_to_world for f in frames], torch.stack(images)
        if self.mirror_probability and rng.random() < self.mirror_probability:
            stacked = stacked.flip(-1)
            depths = [np.ascontiguousarray(depth[:, ::-1]) for depth in depths]
            poses, Ks = mirror_cameras(poses, Ks, width)
        sample = make_sample(poses, Ks, depths, (height, width))
        sample.set_metainfo(
            {
                "dataset": self.layout,
                "sequence": sequence.name,
                "frame_numbers": numbers,
                "img_shape": (height, width),
                "is_metric": sequence.is_metric,
            }
        )
        return {"inputs": {"images": stacked}, "data_samples": sample}


def mirror_cameras(
    poses: Sequence[np.ndarray], Ks: Sequence[np.ndarray], width: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Cameras that see the mirrored world (x to -x) in mirrored pictures.

    Args:
        poses: Camera to world ``(4, 4)``.
        Ks: ``(3, 3)``, pixel centres at +0.5.
        width: Of the pictures in pixels.
    """
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    turned = []
    for K in Ks:
        K = np.array(K)
        K[0, 2] = width - K[0, 2]
        turned.append(K)
    return [flip @ pose @ flip for pose in poses], turned


def resize_nearest(depth: np.ndarray, height: int, width: int) -> np.ndarray:
    """Depth at another size, by nearest neighbour."""
    rows = ((np.arange(height) + 0.5) * depth.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * depth.shape[1] / width).astype(int)
    return depth[rows[:, None], columns]


@DATASETS.register_module()
class MixtureDataset(Dataset):
    """Several clip data sets; an index is ``(data set, item, resolution, draw)``.

    Args:
        datasets: Data sets or their configs.
        quotas: Clips of each per epoch. Defaults to their ``clips``.
    """

    def __init__(
        self, datasets: Sequence[Mapping | Dataset], quotas: Sequence[int] | None = None
    ) -> None:
        self.datasets = [DATASETS.build(dict(d)) if isinstance(d, Mapping) else d for d in datasets]
        self.quotas = list(quotas or [d.clips for d in self.datasets])
        if len(self.quotas) != len(self.datasets):
            raise ValueError(
                f"quotas: expected {len(self.datasets)}, one a data set, got {len(self.quotas)}"
            )

    def __len__(self) -> int:
        return sum(self.quotas)

    def __getitem__(self, index: tuple[int, int, int, int]) -> dict:
        which, *rest = index
        return self.datasets[which][tuple(rest)]


@DATA_SAMPLERS.register_module()
class MixtureSampler(Sampler):
    """Order of an epoch of a :class:`MixtureDataset`; one resolution per batch.

    Args:
        dataset: The mixture.
        batch_size: Clips per batch of one process.
        probabilities: Of each resolution. Defaults to equal ones.
        seed: Of the resolutions. Defaults to 0.
    """

    def __init__(
        self,
        dataset: MixtureDataset,
        batch_size: int = 1,
        probabilities: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        count = len(dataset.datasets[0].resolutions)
        weights = np.ones(count) if probabilities is None else np.asarray(probabilities, float)
        if len(weights) != count:
            raise ValueError(
                f"probabilities: expected one for each of {count} resolutions, got {len(weights)}"
            )
        self.probabilities = weights / weights.sum()
        self.rank, self.ranks = get_dist_info()
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is used."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.dataset) // (self.ranks * self.batch_size) * self.batch_size

    def __iter__(self):
        lengths = [len(d) for d in self.dataset.datasets]
        rows = assemble_epoch(lengths, self.dataset.quotas, self.epoch)
        rng = np.random.default_rng((self.seed, self.epoch))
        choice = rng.choice(len(self.probabilities), len(rows), p=self.probabilities)
        for position in range(len(self)):
            batch, slot = divmod(position, self.batch_size)
            number = (batch * self.ranks + self.rank) * self.batch_size + slot
            row = rows[number]
            # Random choices go with the clip, so that they do not depend on the processes.
            draw = self.epoch * len(rows) + number
            yield int(row[0]), int(row[1]), int(choice[batch]), draw
