"""Data of each config, what it needs from other trainings, and how it is made affordable."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

from mmengine.config import Config

from mmcity.engine.launch import load_config

REPO = Path(__file__).resolve().parents[2]
CONFIGS = {
    f"{path.parent.name}/{path.stem}": path
    for path in sorted((REPO / "configs").glob("*/*.py"))
    if path.parent.name != "_base_"
}
#: One config of each system, which every `make test` runs.
QUICK = (
    "citygsx/citygsx_rubble",
    "dynamiccity/dynamiccity_dit_carlasc",
    "gausstr/gausstr_toytown_cpu",  # a step of the others takes minutes
    "rap/rap_7scenes_sfm_chess",
    "streamvggt/eval_pose_tum",
)
#: Models without parameters.
UNTRAINED = ("dynamiccity/occ_resample_semantickitti",)
#: Data folder of configs, with wildcards, to the layout that is written there.
LAYOUTS = {
    "data/mill19/*": "citygsx",
    "data/urbanscene3d/*": "citygsx",
    "data/matrixcity/*": "matrixcity",
    "data/scene": "colmap",
    "data/7scenes/*": "7scenes",
    "data/7scenes_sfm/*": "7scenes_sfm",
    "data/cambridge/GreatCourt": "colmap",
    "data/cambridge/*": "cambridge",
    "data/aachen_sub": "colmap",
    "data/new_church": "colmap",
    "data/mars/*": "colmap",
    "data/nuscenes_*": "nuscenes_maps",
    "data/nuscenes": "nuscenes",
    "data/carlasc/Cartesian": "carlasc",
    "data/occ3d_waymo": "occ3d_waymo",
    "data/train": "streaming_training",
    "data": "streaming_evaluation",
    "data/toytown*": "toytown",
    "data/semantickitti_4d": "real",
    "data/rollout/*": "rollouts",
}
#: Settings by config, with wildcards, that make it affordable: all that match are merged. Depth,
#: heads and the way of the data stay as they are.
_FEW_PHOTOGRAPHS = {
    "train_dataloader.batch_size": 2,  # 8 take 14 GB
    "train_dataloader.dataset.indices": 4,
    "val_dataloader.dataset.indices": 2,
    "test_dataloader.dataset.indices": 2,
}
SETTINGS: dict[str, dict[str, object]] = {
    "rap/rap_[!m]*": _FEW_PHOTOGRAPHS,
    "rap/rap_mars*": _FEW_PHOTOGRAPHS,
    "gausstr/*": {
        "train_dataloader.batch_size": 1,
        "train_dataloader.dataset.indices": 2,
        "val_dataloader.batch_size": 1,
        "val_dataloader.dataset.indices": 1,
        "test_dataloader.batch_size": 1,
        "test_dataloader.dataset.indices": 1,
    },
    # 128 rendered channels of six views take 22 GB.
    "gausstr/gausstr_[ft]*[!u]": {"model.gauss_head.reduce_dims": 16},
    "gausstr/gausstr_featup": {"model.gauss_head.segment_head.input_dim": 16},
    "dynamiccity/dynamiccity_dit*": {"train_dataloader.batch_size": 1},
    # On a CPU a convolution in float16 takes many times as long.
    "dynamiccity/dynamiccity_dit*_carlasc*": {"optim_wrapper.dtype": "bfloat16"},
    "dynamiccity/dynamiccity_dit_waymo": {"optim_wrapper.dtype": "bfloat16"},
    "dynamiccity/dynamiccity_dit_nuscenes": {"optim_wrapper.dtype": "bfloat16"},
    "dynamiccity/dynamiccity_vae_carlasc": {"train_dataloader.dataset.stride": 16},
    "dynamiccity/dynamiccity_vae_[!ts]*": {
        "optim_wrapper.dtype": "bfloat16",
        "model.query_channels": 16,  # of 64
        "model.conv_hidden_low_res": 32,  # of 128
        "model.conv_hidden_high_res": 8,  # of 32
    },
    "streamvggt/eval_*": {"model.aggregator.embed_dim": 256},  # of 1024
    "streamvggt/eval_pose_sintel": {"model.aggregator.embed_dim": 1024},
}
#: Further ones where no folder keeps the results: `make test` has minutes for all five.
QUICK_SETTINGS: dict[str, dict[str, object]] = {
    "rap/*": {
        "train_dataloader.dataset.resize.factor": 4,
        "val_dataloader.dataset.resize.factor": 4,
        "test_dataloader.dataset.resize.factor": 4,
    },
    "dynamiccity/dynamiccity_dit*": {"model.denoiser.hidden": 96},
    "dynamiccity/dynamiccity_vae*": {
        "train_dataloader.dataset.data_length": 1,
        "model.query_channels": 8,
    },
    "streamvggt/*": {"model.aggregator.embed_dim": 64},
}
#: Folder of data and results that are kept; empty for a quick look at one config of each system.
ROOT = os.environ.get("MMCITY_FULL_SIZE", "")


@dataclass
class Case:
    """A config and what its stages need.

    Args:
        name: ``folder/config``.
        is_quick: With :data:`QUICK_SETTINGS`, and not built at full size, which tests of the dry
            run do too.
    """

    name: str
    is_quick: bool = False
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        self.path = CONFIGS[self.name]

    @cached_property
    def settings(self) -> dict[str, object]:
        """Dotted keys of the config and their values."""
        found: dict[str, object] = {}
        quick = QUICK_SETTINGS if self.is_quick else {}
        for pattern, settings in [*SETTINGS.items(), *quick.items()]:
            if fnmatch(self.name, pattern):
                found |= settings
        return found

    @cached_property
    def cfg(self) -> Config:
        """The config as published."""
        return load_config(self.path)

    @property
    def trains(self) -> bool:
        """Whether the config has a training."""
        return self.cfg.get("train_dataloader") is not None and self.name not in UNTRAINED

    @property
    def by_epoch(self) -> bool:
        """Whether its training counts epochs."""
        return self.trains and self.cfg.train_cfg.get("type") == "EpochBasedTrainLoop"

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages that the config has."""
        found = [] if self.is_quick else ["build"]
        if self.trains:
            found += ["train", "resume"]
            if self.cfg.get("val_dataloader") is not None:
                found.append("validate")
        if self.cfg.get("test_dataloader") is not None:
            found.append("test")
        return tuple(found)

    def _strings(self, node: object) -> Iterator[str]:
        if isinstance(node, Mapping):
            for value in node.values():
                yield from self._strings(value)
        elif isinstance(node, (list, tuple)):
            for value in node:
                yield from self._strings(value)
        elif isinstance(node, str):
            yield node

    @cached_property
    def data(self) -> dict[str, str]:
        """Folder below the working directory to layout."""
        parts = ("train_dataloader", "val_dataloader", "test_dataloader", "test_evaluator")
        found = {}
        for part in parts:
            for text in self._strings(self.cfg.get(part)):
                folder = text.rstrip("/")
                if folder != "data" and not folder.startswith("data/"):
                    continue
                for pattern, layout in LAYOUTS.items():
                    if fnmatch(folder, pattern):
                        found[folder] = layout
                        break
                else:
                    raise LookupError(f"{self.path}: no layout is known for {folder}")
        if self.name == "dynamiccity/dynamiccity_vae_nuscenes":
            found["data/nuscenes"] = "occ3d_nuscenes"
        return found

    @cached_property
    def files(self) -> list[str]:
        """Files of other trainings that the config names."""
        pattern = r"(work_dirs|checkpoints)/.*\.(pth|ply)"
        parts = ("model", "default_hooks", "test_evaluator")
        texts = self._strings([self.cfg.get(part) for part in parts])
        return sorted({text for text in texts if re.fullmatch(pattern, text)})


CASES = {name: Case(name, is_quick=not ROOT) for name in CONFIGS}
