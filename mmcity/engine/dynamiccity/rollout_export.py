"""Export of HexPlane rollouts: sharded over ranks, resumable, deterministic."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import barrier, get_rank, get_world_size
from rich.progress import track

from mmcity.datasets.io.rollout_files import (
    read_rollout,
    rollout_path,
    write_rollout,
    write_rollout_index,
)
from mmcity.datasets.occ_sequence import OccSequenceDataset
from mmcity.datasets.transforms.occupancy import flip_clip, flip_planar_poses, vehicle_layout
from mmcity.engine.checkpointing import load_checkpoint_weights, load_weights
from mmcity.engine.distributed import lost_processes_told
from mmcity.engine.launch import load_config
from mmcity.models.dynamiccity.hexplane import rollout_slices, to_rollout
from mmcity.models.dynamiccity.vae import HexPlaneVAE
from mmcity.registry import DATASETS, MODELS
from mmcity.utils.device import device_at_hand
from mmcity.utils.failures import ItemFailures
from mmcity.utils.made_from import keep_made_alike
from mmcity.utils.torch_files import tensors_digest

#: Least standard deviation of a channel that is stored, a few steps of float16 around 1.
_LEAST_STD = 1e-2


@lost_processes_told("export of rollouts")
def export_checkpoint_rollouts(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike,
    out_dir: str | os.PathLike,
    *,
    splits: Sequence[str] = ("train", "test"),
    layout_down: int = 4,
    dtype: str = "float16",
    flips: Sequence[int] = (0,),
    device: str | None = None,
    cfg_options: Mapping[str, object] | None = None,
) -> dict[Path, dict]:
    """Export the rollouts of a trained VAE.

    Processes that torchrun started share the clips; what is up to date is kept.

    Args:
        config: Config of a ``HexPlaneVAE``.
        checkpoint: Its weights.
        out_dir: Folder; one sub-folder per split.
        splits: Data loaders of the config to export. Defaults to train and test.
        layout_down: Reduction of the layout. Defaults to 4.
        dtype: Of the planes. Defaults to ``float16``.
        flips: Write each clip of the train split once per flip: sums of 1 (x), 2 (y), 4 (time);
            0 2 5 7 quadruple the data and keep cars driving forwards. Defaults to (0,).
        device: Defaults to ``cuda`` where there is one, else ``cpu``.
        cfg_options: Dotted keys of the config and their values. Defaults to None.

    Returns:
        See :func:`export_splits`.
    """
    cfg = load_config(config, cfg_options)
    device = device_at_hand(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    model = MODELS.build(cfg.model)
    load_weights(model, load_checkpoint_weights(checkpoint), str(checkpoint))
    return export_splits(model.to(device), cfg, out_dir, splits, layout_down, dtype, flips)


def export_splits(
    model: HexPlaneVAE,
    cfg: Config,
    out_dir: str | os.PathLike,
    splits: Sequence[str] = ("train", "test"),
    layout_down: int = 4,
    dtype: str = "float16",
    flips: Sequence[int] = (0,),
    replace: bool = False,
) -> dict[Path, dict]:
    """Export the rollouts of whole splits, without random augmentation.

    Args:
        model: VAE; it is set to eval mode.
        cfg: Config with the data loaders.
        out_dir: Target folder; a sub-folder per split.
        splits: Data loaders, out of ``train``, ``val``, ``test``. Defaults to train and test.
        layout_down, dtype: See :func:`export_rollouts`.
        flips: See :func:`export_rollouts`; only the train split gets more than the clips as
            they are.
        replace: See :func:`export_rollouts`. Defaults to False.

    Returns:
        The index of each sub-folder.
    """
    indices = {}
    for split in splits:
        dataset = {**cfg[f"{split}_dataloader"].dataset, "pipeline": []}
        for random in ("random_crop", "class_balance"):
            dataset.pop(random, None)
        folder = Path(out_dir) / split
        indices[folder] = export_rollouts(
            model,
            DATASETS.build(dataset),
            folder,
            layout_down,
            dtype,
            flips if split == "train" else (0,),
            replace,
        )
    return indices


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
        raise ValueError("statistics: expected rollout files, found none")
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
    flips: Sequence[int] = (0,),
    replace: bool = False,
) -> dict:
    """Write the latent means of every clip as a rollout file, and the index.

    Files of the same weights, frames and options are kept, so that a killed export goes on where
    it stopped.

    Args:
        model: VAE; it is set to eval mode.
        dataset: Clips, without random augmentation.
        out_dir: Target folder; see ``rollout_path`` for the names below it.
        layout_down: Reduction of the layout that is stored beside. Defaults to 4.
        dtype: Of the stored rollouts. Defaults to ``float16``.
        flips: Each clip is written once for each of these flips (sums of 1 for x, 2 for y, 4
            for time), together with its layout and poses; scenes ``<scene>_flip<n>`` hold
            those that are not 0. Where x is the way ahead, 0, 2, 5 and 7 keep cars driving
            forwards. Defaults to (0,).
        replace: Make rollouts of other weights or options anew, instead of refusing the folder.
            Defaults to False.

    Returns:
        The index that was written.

    Raises:
        UserError: If the folder holds rollouts of other weights or options; or if clips cannot
            be read, once the others are written; the index, which is that of all, is not.
        ValueError: If flips are unknown or repeated, or windows of the data set coincide.
    """
    if not set(flips) <= set(range(8)) or len(set(flips)) < len(flips):
        raise ValueError(f"flips: expected different numbers from 0 to 7, got {list(flips)}")
    out_dir = Path(out_dir)
    device = next(model.parameters()).device
    rank, world = get_rank(), get_world_size()
    model.eval()
    infos = [dataset.get_data_info_without_voxels(i) for i in range(len(dataset))]
    last_window = defaultdict(int)
    for info in infos:
        last_window[info["scene"]] = max(last_window[info["scene"]], info["window"])
    windows = []
    for flip in flips:
        for info in infos:
            scene = info["scene"] + (f"_flip{flip}" if flip else "")
            path = rollout_path(out_dir, scene, info["frames"][0])
            window = info["window"]
            if flip & 4:  # time runs backwards, and so does the order of the windows
                window = last_window[info["scene"]] - window
            name = str(path.relative_to(out_dir))
            windows.append({"path": name, "scene": scene, "window": window})
    if len({w["path"] for w in windows}) != len(windows):
        raise ValueError("windows: expected own first frames and scenes, got two with the same")
    failures = ItemFailures("clips")
    if rank == 0:
        frames = [[name.split("#")[0] for name in info["frames"]] for info in infos]
        keep_made_alike(
            out_dir,
            {
                "weights": tensors_digest(model.state_dict()),
                "clips": [dataset.sequence_length, dataset.skip, dataset.crop, dataset.raw_labels],
                "layout_down": layout_down,
                "dtype": dtype,
            },
            {w["path"]: frames[i % len(infos)] for i, w in enumerate(windows)},
            replace,
        )
    barrier()
    for i in track(range(rank, len(windows), world), description="rollouts", disable=rank != 0):
        path = out_dir / windows[i]["path"]
        if path.is_file():
            continue
        with failures.item(windows[i]["path"]):
            flip, info = flips[i // len(infos)], dataset.get_data_info(i % len(infos))
            clip, poses = flip_clip(info["voxels"], flip), info.get("planar_poses")
            if poses is not None:
                poses = flip_planar_poses(poses, flip)
            voxels = torch.from_numpy(clip)[None].to(device)
            rollout = to_rollout(model.encode(voxels)[0]).cpu().numpy().astype(dtype)
            write_rollout(path, rollout, vehicle_layout(clip, layout_down), poses)
    failures.check()
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
