"""Export of HexPlane rollouts: sharded over ranks, resumable, deterministic."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import barrier, get_rank, get_world_size
from rich.progress import track

from mmcity.datasets.io.rollout_files import (
    read_rollout,
    rollout_path,
    write_rollout,
    write_rollout_index,
)
from mmcity.datasets.occ_sequence import OccSequenceDataset
from mmcity.datasets.transforms.occupancy import vehicle_layout
from mmcity.models.dynamiccity.hexplane import rollout_slices, to_rollout
from mmcity.models.dynamiccity.vae import HexPlaneVAE

__all__ = ["export_rollouts", "rollout_statistics", "without_augmentation"]


#: Least standard deviation of a channel that is stored, a few steps of float16 around 1.
_LEAST_STD = 1e-2


def without_augmentation(dataset: dict) -> dict:
    """Config of a data set of clips, without all that is random in it."""
    plain = {k: v for k, v in dataset.items() if k not in ("random_crop", "class_balance")}
    return {**plain, "pipeline": []}


def rollout_statistics(
    paths: Iterable[Path], txyz: tuple[int, int, int, int]
) -> dict[str, list[list[float]]]:
    """Mean and standard deviation ``(6, C)`` over rollout files, in two running sums."""
    total = squares = None
    counts = np.zeros(6)
    slices = rollout_slices(txyz)
    for path in paths:
        rollout = read_rollout(path)["rollout"][0].astype(np.float64)  # (C, S, S)
        sums = np.stack([rollout[:, r, c].sum((1, 2)) for r, c in slices])
        powers = np.stack([np.square(rollout[:, r, c]).sum((1, 2)) for r, c in slices])
        counts += [rollout[0, r, c].size for r, c in slices]
        total = sums if total is None else total + sums
        squares = powers if squares is None else squares + powers
    if total is None:
        raise ValueError("no rollout files to take statistics from")
    mean = total / counts[:, None]
    variance = np.maximum(squares / counts[:, None] - mean**2, 0.0)
    # What is constant but for the rounding of the files must not be blown up to unit variance.
    return {"mean": mean.tolist(), "std": np.maximum(np.sqrt(variance), _LEAST_STD).tolist()}


@torch.no_grad()
def export_rollouts(
    model: HexPlaneVAE,
    dataset: OccSequenceDataset,
    out_dir: str | Path,
    layout_down: int = 4,
    dtype: str = "float16",
) -> dict:
    """Write the latent means of every clip as a rollout file, and the index.

    Files that exist are kept, so that a killed export goes on where it stopped.

    Args:
        model: VAE in eval mode.
        dataset: Clips, without random augmentation.
        out_dir: Target folder; see ``rollout_path`` for the names below it.
        layout_down: Reduction of the layout that is stored beside. Defaults to 4.
        dtype: Of the stored rollouts. Defaults to ``float16``.

    Returns:
        The index that was written.
    """
    out_dir = Path(out_dir)
    device = next(model.parameters()).device
    rank, world = get_rank(), get_world_size()
    model.eval()
    windows = []
    for i in range(len(dataset)):
        info = dataset.get_data_info_without_voxels(i)
        path = rollout_path(out_dir, info["scene"], info["frames"][0])
        windows.append(
            {
                "path": str(path.relative_to(out_dir)),
                "scene": info["scene"],
                "window": info["window"],
            }
        )
    if len({w["path"] for w in windows}) != len(windows):
        raise ValueError("two windows of the data set have the same first frame and scene")
    mine = range(rank, len(dataset), world)
    for i in track(mine, description="rollouts", disable=rank != 0):
        path = out_dir / windows[i]["path"]
        if path.is_file():
            continue
        info = dataset.get_data_info(i)
        voxels = torch.from_numpy(info["voxels"])[None].to(device)
        rollout = to_rollout(model.encode(voxels)[0]).cpu().numpy().astype(dtype)
        layout = vehicle_layout(info["voxels"], layout_down)
        write_rollout(path, rollout, layout, info.get("planar_poses"))
    barrier()
    index = {
        "txyz": list(model.txyz),
        "channels": model.latent_channels,
        "sequence_length": dataset.sequence_length,
        "skip": dataset.skip,
        "layout_down": layout_down,
        "windows": windows,
    }
    if rank == 0:
        index["statistics"] = rollout_statistics(
            [out_dir / w["path"] for w in windows], tuple(model.txyz)
        )
        write_rollout_index(out_dir, index)
    barrier()
    return index
