"""Occupancy around a car from its cameras."""

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from mmcity.apis.inferencer import Inferencer
from mmcity.apis.occupancy.foundation_maps import (
    STORED_DTYPES,
    generate_targets,
    images_of_frame,
    keep_maps_alike,
    make_provider,
    options_digest,
)
from mmcity.datasets.io.map_store import MapStore
from mmcity.datasets.transforms import LoadFeatMaps
from mmcity.models.gausstr import Vocabulary
from mmcity.models.gausstr.gaussian_set import GaussianSet
from mmcity.registry import DATASETS, INFERENCERS
from mmcity.structures import VoxelGrid
from mmcity.structures.occupancy_data_sample import OccupancyDataSample
from mmcity.structures.palettes import OCC3D_NUSCENES_PALETTE
from mmcity.utils.fileio import atomic_path, read_arrays, visible
from mmcity.utils.made_from import made_with
from mmcity.utils.timing import stage
from mmcity.visualization.occupancy import render_birds_eye

_FIELDS = ("means", "scales", "rotmats", "opacities", "features")


def save_gaussian_set(gaussians: GaussianSet, path: str | Path) -> None:
    """Write predicted Gaussians (npz), to be voxelised again at any range and resolution."""
    arrays = {name: getattr(gaussians, name).cpu().numpy() for name in _FIELDS}
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def load_gaussian_set(path: str | Path) -> GaussianSet:
    """Read what :func:`save_gaussian_set` wrote."""
    data = read_arrays(path, _FIELDS)
    missing = [name for name in _FIELDS if name not in data]
    if missing:
        raise ValueError(f"{path}: expected arrays {missing} too, got {sorted(data)}")
    return GaussianSet(**{name: torch.from_numpy(data[name]) for name in _FIELDS})


@dataclass
class OccupancyResult:
    """Occupancy around a car at one moment.

    Attributes:
        labels: int64 ``(X, Y, Z)``, on the CPU.
        grid: The same with their densities and their place in the frame of the car (x ahead, y
            left, z up, metres).
        gaussians: What the labels come from; :meth:`OccupancyPredictor.label` labels them at
            another range or voxel size.
        sample: Data sample of the key frame, with the ground truth where the data has it.
    """

    labels: Tensor
    grid: VoxelGrid
    gaussians: GaussianSet
    sample: OccupancyDataSample


@INFERENCERS.register_module()
class OccupancyPredictor(Inferencer):
    """Labels the volume around a car.

    Example::

        predictor = OccupancyPredictor("gausstr_toytown_cpu", "work_dirs/.../iter_1200.pth")
        predictor(0).labels                     # of the first key frame of the test data
        for result in predictor("my_infos_val.pkl"):
            print(result.grid.occupied.sum())

    Args:
        config: Config whose ``model`` is a ``GaussTR``, see :class:`~mmcity.apis.Inferencer`.
        checkpoint: Its weights; None keeps random ones. Defaults to None.
        device: Defaults to ``cuda`` where there is one, else ``cpu``.
        depth_model: Depth maps that a key frame lacks are made on the way by this model (see
            :func:`~mmcity.apis.occupancy.foundation_maps.make_provider`) and kept where the
            config looks for them.
            Defaults to None (they must be there).
        depth_options: Its options, such as paths of weights. Defaults to None.
        show_progress: See :class:`~mmcity.apis.Inferencer`. Defaults to True.
    """

    def __init__(
        self,
        config: str | os.PathLike | Config,
        checkpoint: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        depth_model: str | None = None,
        depth_options: dict | None = None,
        show_progress: bool = True,
    ) -> None:
        super().__init__(config, checkpoint, device, show_progress)
        if not hasattr(self.model, "gauss_heads"):
            raise ValueError(
                f"config: expected a model of GaussTR, got {type(self.model).__name__}"
            )
        self.depth_model = depth_model
        self._make_provider = cache(
            lambda: make_provider("depth", depth_model, depth_options, str(self.device))
        )
        self._depth_options = cache(lambda: options_digest(depth_options))
        self._make_dataset = cache(self._build_dataset)

    def set_vocabulary(self, prototypes: Tensor, vocabulary: Vocabulary) -> None:
        """Change what is looked for; see ``GaussTRHead.set_prototypes``."""
        self.model.gauss_heads[-1].set_prototypes(prototypes, vocabulary)

    def __call__(
        self,
        inputs: int | Mapping | str | os.PathLike | Sequence[int],
        dataset: str | os.PathLike = "test",
        vol_range: Sequence[float] | None = None,
        voxel_size: float | None = None,
    ) -> OccupancyResult | list[OccupancyResult]:
        """Occupancy of key frames.

        Args:
            inputs: Number of a key frame or several of them, see ``dataset``; arrays of one (see
                :meth:`preprocess`); or an info file, all of whose key frames are taken.
            dataset: ``train``, ``val`` or ``test`` data of the config, or an info file (format
                v2) of the same camera rig, whose images lie below the config's data root; no
                ground truth is needed then. Defaults to ``test``.
            vol_range: Corners of the volume in metres. Defaults to the model's.
            voxel_size: Metres. Defaults to the model's.

        Returns:
            One result for a number or arrays, else a list.
        """
        if isinstance(inputs, (str, os.PathLike)):
            frames = range(self.count_frames(inputs))
            return list(self.iterate(frames, inputs, vol_range, voxel_size))
        if isinstance(inputs, (int, np.integer, Mapping)):
            return next(self.iterate([inputs], dataset, vol_range, voxel_size))
        return list(self.iterate(inputs, dataset, vol_range, voxel_size))

    def iterate(
        self,
        frames: Sequence[int | Mapping],
        dataset: str | os.PathLike = "test",
        vol_range: Sequence[float] | None = None,
        voxel_size: float | None = None,
    ) -> Iterator[OccupancyResult]:
        """Results one after the other; arguments as of a call."""
        for frame in self.track(frames, "occupancy"):
            batch = self.preprocess(frame, dataset)
            sample = batch["data_samples"][0]
            yield self.postprocess(self.forward(batch), sample, vol_range, voxel_size)

    def preprocess(self, frame: int | Mapping, dataset: str | os.PathLike = "test") -> dict:
        """Collated batch of one key frame.

        Args:
            frame: Its number, or arrays of its N cameras: ``img`` ``(N, 3, H, W)`` RGB in
                0..255 or stored features ``feats`` ``(N, C, h, w)``, as the model needs,
                ``depth`` ``(N, H, W)`` metres, ``cam2img``, ``cam2ego`` ``(N, 4, 4)`` and,
                where images were resized or cropped, ``img_aug_mat`` ``(N, 4, 4)``.
            dataset: As of a call.
        """
        if not isinstance(frame, Mapping):
            return self.load(int(frame), dataset)
        lacking = [name for name in ("depth", "cam2img", "cam2ego") if name not in frame]
        if lacking:
            raise ValueError(f"frame: expected arrays {lacking} too, got {sorted(frame)}")
        aug = np.broadcast_to(np.eye(4, dtype=np.float32), (len(frame["cam2img"]), 4, 4)).copy()
        arrays = {"img_aug_mat": aug, **frame}
        return {
            "inputs": {name: [torch.as_tensor(value)] for name, value in arrays.items()},
            "data_samples": [OccupancyDataSample()],
        }

    @torch.no_grad()
    def forward(self, batch: dict) -> GaussianSet:
        """Gaussians of a collated batch (``inputs`` and ``data_samples`` of the pipeline)."""
        data = self.model.data_preprocessor(batch)
        return self.model(data["inputs"], data.get("data_samples"), mode="tensor")

    #: What :meth:`forward` does, by the name of the result.
    predict_gaussians = forward

    def postprocess(
        self,
        gaussians: GaussianSet,
        sample: OccupancyDataSample,
        vol_range: Sequence[float] | None = None,
        voxel_size: float | None = None,
    ) -> OccupancyResult:
        """Result of the Gaussians of one key frame; arguments as of :class:`OccupancyResult`."""
        head = self.model.gauss_heads[-1]
        volumes = head.predict(gaussians, vol_range, voxel_size)
        labels = volumes["labels"][0].cpu()
        grid = VoxelGrid(
            labels,
            volumes["density"][0, ..., 0].cpu(),
            origin=(vol_range or head.voxelizer.vol_range)[:3],
            voxel_size=voxel_size or head.voxelizer.voxel_size,
            free_label=head.vocabulary.free_label,
        )
        return OccupancyResult(labels, grid, gaussians, sample)

    def visualize(self, result: OccupancyResult) -> list[np.ndarray]:
        """The labels from above, ahead is up."""
        labels, free = result.labels.numpy(), result.grid.free_label
        return [render_birds_eye(labels, OCC3D_NUSCENES_PALETTE, free)]

    @torch.no_grad()
    def label(
        self,
        gaussians: GaussianSet,
        vol_range: Sequence[float] | None = None,
        voxel_size: float | None = None,
    ) -> Tensor:
        """Labels int64 ``(B, X, Y, Z)``, at any range and resolution.

        Args:
            gaussians: Predicted or loaded Gaussians.
            vol_range: Corners in metres. Defaults to the model's.
            voxel_size: Metres. Defaults to the model's.
        """
        head = self.model.gauss_heads[-1]
        return head.predict(gaussians.to(self.device), vol_range, voxel_size)["labels"]

    def count_frames(self, dataset: str | os.PathLike = "test") -> int:
        """Key frames of a data loader of the config, or of an info file."""
        return len(self._make_dataset(str(dataset)))

    def predict_volumes(
        self, index: int, dataset: str | os.PathLike = "test"
    ) -> tuple[dict, OccupancyDataSample]:
        """Labels with the density and prompts that they come from, and the data sample.

        Args:
            index: Key frame.
            dataset: As of a call.

        Returns:
            What ``GaussTRHead.predict`` gives, and the sample with the ground truth.
        """
        batch = self.load(index, dataset)
        volumes = self.model.gauss_heads[-1].predict(self.forward(batch))
        return volumes, batch["data_samples"][0]

    def load(self, index: int, dataset: str | os.PathLike = "test") -> dict:
        """Collated batch of one key frame, as :meth:`forward` takes it; see :meth:`preprocess`."""
        data = self._make_dataset(str(dataset))
        if self.depth_model is not None:
            self._make_depth(data, index)
        item = data[index]
        return {
            "inputs": {key: [value] for key, value in item["inputs"].items()},
            "data_samples": [item["data_samples"]],
        }

    def _make_depth(self, data: Any, index: int) -> None:
        folders = [
            step.data_root
            for step in data.pipeline.transforms
            if isinstance(step, LoadFeatMaps) and step.key == "depth"
        ]
        tasks = images_of_frame(data.get_data_info(index), data.data_root)
        meta = {"kind": "depth", "model": self.depth_model}
        for folder in folders:
            store = MapStore(folder, STORED_DTYPES["depth"], meta=meta)
            found = made_with(folder)
            is_new = not any(visible(Path(folder).glob("*")))
            if found is not None or is_new:  # maps from elsewhere have no record
                made = {**meta, "options": self._depth_options(), "size": None, "compress": False}
                stored = {k: v for k, v in (found or {}).items() if k in ("size", "compress")}
                keep_maps_alike(store, tasks, {**made, **stored})
            with stage("depth network"):
                generate_targets(tasks, self._make_provider, store)

    def _build_dataset(self, name: str) -> Any:
        """Data of a loader of the config, or of an info file without ground truth."""
        is_split = f"{name}_dataloader" in self.cfg
        cfg = copy.deepcopy(self.cfg[f"{name if is_split else 'test'}_dataloader"].dataset)
        if not is_split:
            if not Path(name).is_file():
                raise FileNotFoundError(f"{name}: expected train, val, test or an info file")
            cfg.ann_file = str(Path(name).resolve())
            cfg.pipeline = [
                step for step in cfg.pipeline if not step["type"].endswith("LoadOccFromFile")
            ]
        return DATASETS.build(cfg)
