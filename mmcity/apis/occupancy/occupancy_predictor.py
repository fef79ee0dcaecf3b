"""Occupancy around a car from its cameras."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from mmcity.apis.occupancy.foundation_maps import (
    STORED_DTYPES,
    generate_targets,
    images_of_frame,
    make_provider,
)
from mmcity.datasets.io.map_store import MapStore
from mmcity.engine.checkpointing import load_checkpoint_weights
from mmcity.models.gausstr import GaussTR, Vocabulary
from mmcity.models.gausstr.gaussian_set import GaussianSet
from mmcity.registry import DATASETS, MODELS
from mmcity.utils import register_all_modules
from mmcity.utils.fileio import atomic_path
from mmcity.utils.timing import stage

__all__ = ["OccupancyPredictor", "load_gaussian_set", "save_gaussian_set"]

_FIELDS = ("means", "scales", "rotmats", "opacities", "features")


def save_gaussian_set(gaussians: GaussianSet, path: str | Path) -> None:
    """Write predicted Gaussians (npz), to be voxelised again at any range and resolution."""
    arrays = {name: getattr(gaussians, name).cpu().numpy() for name in _FIELDS}
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def load_gaussian_set(path: str | Path) -> GaussianSet:
    """Read what :func:`save_gaussian_set` wrote."""
    with np.load(path, allow_pickle=False) as data:
        missing = [name for name in _FIELDS if name not in data]
        if missing:
            raise ValueError(f"{path}: arrays {missing} are missing, got {data.files}")
        return GaussianSet(**{name: torch.from_numpy(data[name]) for name in _FIELDS})


class OccupancyPredictor:
    """Labels the volume around a car.

    Args:
        config: Config file or object whose ``model`` is a ``GaussTR``.
        checkpoint: Its weights; None keeps random ones. Defaults to None.
        device: Defaults to ``cuda`` where there is one, else ``cpu``.
        depth_model: Depth maps that a key frame lacks are made on the way by this model (see
            :func:`~mmcity.apis.occupancy.foundation_maps.make_provider`) and kept where the
            config looks for them.
            Defaults to None (they must be there).
        depth_options: Its options, such as paths of weights. Defaults to None.
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        device: str | None = None,
        depth_model: str | None = None,
        depth_options: dict | None = None,
    ) -> None:
        register_all_modules()
        self.cfg = config if isinstance(config, Config) else Config.fromfile(str(config))
        self.model: GaussTR = MODELS.build(self.cfg.model)
        if checkpoint is not None:
            self.model.load_state_dict(load_checkpoint_weights(checkpoint))
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model.to(self.device).eval()
        self.depth_model = depth_model
        self._make_provider = cache(
            lambda: make_provider("depth", depth_model, depth_options, str(self.device))
        )

    def set_vocabulary(self, prototypes: Tensor, vocabulary: Vocabulary) -> None:
        """Change what is looked for; see ``GaussTRHead.set_prototypes``."""
        self.model.gauss_heads[-1].set_prototypes(prototypes, vocabulary)

    @torch.no_grad()
    def predict_gaussians(self, batch: dict) -> GaussianSet:
        """Gaussians of a collated batch (``inputs`` and ``data_samples`` of the pipeline)."""
        data = self.model.data_preprocessor(batch)
        return self.model(data["inputs"], data.get("data_samples"), mode="tensor")

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

    def __call__(self, index: int, dataset: str = "test") -> Tensor:
        """Labels ``(X, Y, Z)`` of one key frame of a data loader of the config.

        Args:
            index: Key frame.
            dataset: ``train``, ``val`` or ``test``. Defaults to ``test``.
        """
        return self.label(self.predict_gaussians(self.load(index, dataset)))[0]

    def count_frames(self, dataset: str = "test") -> int:
        """Key frames of a data loader of the config."""
        return len(self._dataset(dataset))

    @torch.no_grad()
    def predict_volumes(self, index: int, dataset: str = "test") -> tuple[dict, object]:
        """Labels with the density and prompts that they come from, and the data sample.

        Args:
            index: Key frame.
            dataset: ``train``, ``val`` or ``test``. Defaults to ``test``.

        Returns:
            What ``GaussTRHead.predict`` gives, and the sample with the ground truth.
        """
        batch = self.load(index, dataset)
        volumes = self.model.gauss_heads[-1].predict(self.predict_gaussians(batch))
        return volumes, batch["data_samples"][0]

    def load(self, index: int, dataset: str = "test") -> dict:
        """Collated batch of one key frame, as :meth:`predict_gaussians` takes it.

        Args:
            index: Key frame.
            dataset: ``train``, ``val`` or ``test``. Defaults to ``test``.
        """
        if self.depth_model is not None:
            self._make_depth(index, dataset)
        item = self._dataset(dataset)[index]
        return {
            "inputs": {key: [value] for key, value in item["inputs"].items()},
            "data_samples": [item["data_samples"]],
        }

    def _make_depth(self, index: int, name: str) -> None:
        dataset = self._dataset(name)
        folders = [
            step["data_root"]
            for step in self.cfg[f"{name}_dataloader"].dataset.pipeline
            if step["type"] == "LoadFeatMaps" and step["key"] == "depth"
        ]
        tasks = images_of_frame(dataset.get_data_info(index), dataset.data_root)
        meta = {"kind": "depth", "model": self.depth_model}
        for folder in folders:
            store = MapStore(folder, STORED_DTYPES["depth"], meta=meta)
            with stage("depth network"):
                generate_targets(tasks, self._make_provider, store)

    def _dataset(self, name: str):
        cached = getattr(self, "_datasets", {})
        if name not in cached:
            cached[name] = DATASETS.build(self.cfg[f"{name}_dataloader"].dataset)
            self._datasets = cached
        return cached[name]
