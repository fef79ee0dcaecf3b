"""Exported HexPlane rollouts with the conditions of their clips."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mmcity.registry import DATASETS
from mmcity.structures import OccupancyDataSample
from mmcity.utils.checks import check_choice

from .io.rollout_files import read_rollout, read_rollout_index
from .transforms.occupancy import planar_command, planar_trajectory


@DATASETS.register_module()
class HexPlaneRollout(BaseDataset):
    """Targets and conditions of the diffusion stage.

    Args:
        data_root: Folder that ``tools/export_rollouts.py`` wrote.
        conditions: Out of ``hexplane`` (the clip before), ``layout``, ``trajectory``,
            ``command``. Defaults to ().
        txyz: Latent sizes the model expects, checked against the export. Defaults to None.
        trajectory_frame: See ``planar_trajectory``. Defaults to ``ego``.
        angle_threshold, forward_threshold, scale_thresholds: See ``planar_command``.
        missing_predecessor: With ``hexplane``: ``skip`` leaves out windows without a clip
            before (their number is logged), ``zeros`` gives them an empty condition.
            Defaults to ``skip``.
        predecessor_overlap: With ``hexplane``: frames that a clip shares with the one before
            it, as the model's. Defaults to 0 (one follows the other, as published).
        cache: Keep the arrays in memory. Defaults to True.
        kwargs: As in mmengine's ``BaseDataset``.
    """

    def __init__(
        self,
        data_root: str,
        conditions: Sequence[str] = (),
        txyz: Sequence[int] | None = None,
        trajectory_frame: str = "ego",
        angle_threshold: float = 0.0025,
        forward_threshold: float = 0.03,
        scale_thresholds: bool = False,
        missing_predecessor: str = "skip",
        predecessor_overlap: int = 0,
        cache: bool = True,
        pipeline: Sequence[dict | Callable] = (),
        **kwargs,
    ) -> None:
        check_choice("missing_predecessor", missing_predecessor, ("skip", "zeros"))
        self.conditions = tuple(conditions)
        self.txyz = None if txyz is None else tuple(txyz)
        self.trajectory_frame = trajectory_frame
        self.command_options = {
            "angle_threshold": angle_threshold,
            "forward_threshold": forward_threshold,
            "scale_thresholds": scale_thresholds,
        }
        self.missing_predecessor = missing_predecessor
        self.predecessor_overlap = predecessor_overlap
        self._cache: dict[str, dict[str, np.ndarray]] | None = {} if cache else None
        super().__init__(ann_file="", data_root=data_root, pipeline=list(pipeline), **kwargs)

    def load_data_list(self) -> list[dict]:
        """One entry per exported window that has what the conditions need."""
        self.index = read_rollout_index(self.data_root)
        if self.txyz is not None and tuple(self.index["txyz"]) != self.txyz:
            raise ValueError(
                f"{self.data_root}: expected latent sizes txyz = {list(self.txyz)} as of the "
                f"config, got an export with {self.index['txyz']}"
            )
        frames = self.index["sequence_length"]
        if not 0 <= self.predecessor_overlap < frames:
            raise ValueError(
                f"predecessor_overlap: expected 0 to below the {frames} frames of a clip, got "
                f"{self.predecessor_overlap}"
            )
        span = (frames - self.predecessor_overlap) * (self.index.get("skip", 0) + 1)
        by_window = {(w["scene"], w["window"]): w["path"] for w in self.index["windows"]}
        data, skipped = [], 0
        for window in self.index["windows"]:
            entry = {**window, "previous": None}
            if "hexplane" in self.conditions:
                entry["previous"] = by_window.get((window["scene"], window["window"] - span))
                if entry["previous"] is None and self.missing_predecessor == "skip":
                    skipped += 1
                    continue
            data.append(entry)
        if skipped:
            print_log(
                f"{self.data_root}: {skipped} of {len(self.index['windows'])} windows have no clip "
                "before them and are left out",
                logger="current",
                level=logging.INFO,
            )
        if not data:
            raise ValueError(f"{self.data_root}: expected {self.conditions}, found none")
        return data

    @property
    def statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation ``(6, C)`` per plane and channel, over the export."""
        values = self.index.get("statistics")
        if values is None:
            raise ValueError(f"{self.data_root}: expected statistics, got none: export it again")
        return torch.tensor(values["mean"]), torch.tensor(values["std"])

    def _read(self, path: str) -> dict[str, np.ndarray]:
        if self._cache is None:
            return read_rollout(Path(self.data_root) / path)
        if path not in self._cache:
            self._cache[path] = read_rollout(Path(self.data_root) / path)
        return self._cache[path]

    def get_cat_ids(self, idx: int) -> list[int]:
        """Driving command of a window, so that mmengine's ``ClassBalancedDataset`` can repeat
        the rare ones."""
        info = self.get_data_info(idx)
        arrays = self._read(info["path"])
        return [int(self._condition("command", info, arrays))]

    def prepare_data(self, idx: int) -> dict:
        """``inputs`` (rollout and conditions, float32 tensors) and a data sample."""
        info = self.get_data_info(idx)
        arrays = self._read(info["path"])
        rollout = torch.from_numpy(arrays["rollout"][0].astype(np.float32))
        inputs = {"rollout": rollout}
        for name in self.conditions:
            inputs[name] = self._condition(name, info, arrays)
        sample = OccupancyDataSample(
            metainfo={key: info[key] for key in ("scene", "window", "path")}
        )
        return {"inputs": inputs, "data_samples": sample}

    def _condition(self, name: str, info: dict, arrays: dict[str, np.ndarray]) -> torch.Tensor:
        if name == "hexplane":
            if info["previous"] is None:
                return torch.zeros(arrays["rollout"].shape[1:])
            return torch.from_numpy(self._read(info["previous"])["rollout"][0].astype(np.float32))
        needed = "layout" if name == "layout" else "planar_poses"
        if needed not in arrays:
            raise ValueError(
                f"{info['path']}: expected '{needed}' for the condition '{name}', got none: "
                "export it from a data set that has it"
            )
        if name == "layout":
            return torch.from_numpy(arrays["layout"].astype(np.float32))
        poses = arrays["planar_poses"].astype(np.float64)
        if name == "trajectory":
            return torch.from_numpy(
                planar_trajectory(poses, self.trajectory_frame).astype(np.float32)
            )
        return torch.tensor(planar_command(poses, **self.command_options))
