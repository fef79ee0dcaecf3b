"""The ``point_cloud`` folders of the original CityGS-X."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmcity.engine.checkpointing import load_from_local
from mmcity.models.citygsx.checkpoint_keys import (
    columns_to_state,
    mlps_to_state,
    state_to_columns,
    state_to_mlps,
)
from mmcity.models.layers import frame_in_state, frame_to_state
from mmcity.structures import read_ply_vertices, write_ply_vertices
from mmcity.structures.io.ply import read_ply_frame
from mmcity.utils.fileio import atomic_paths, read_arrays
from mmcity.utils.torch_files import write_torch

_REQUIRED = ("x", "y", "z", "level", "extra_level", "info", "f_offset_0", "f_anchor_feat_0")


def read_folder(folder: Path) -> dict[str, Tensor]:
    """State dict from a folder of the original; shards (``point_cloud_rk*_ws*.ply``) are joined.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a column or a network is missing.
    """
    whole = folder / "point_cloud.ply"
    files = [whole] if whole.is_file() else sorted(folder.glob("point_cloud_rk*_ws*.ply"))
    if not files:
        raise FileNotFoundError(f"{folder}: expected point_cloud.ply or point_cloud_rk*.ply")
    shards = [read_ply_vertices(path, _REQUIRED) for path in files]
    # Each shard carries the scene's numbers in its own first rows.
    info = shards[0]["info"][:2]
    columns = {n: np.concatenate([shard[n] for shard in shards]) for n in shards[0]}
    columns["info"][:2] = info
    extra = folder / "additional_attributes.npz"
    if not extra.is_file():
        raise FileNotFoundError(f"{extra}: expected the file with init_pos")
    arrays = read_arrays(extra, ("init_pos",))
    if "init_pos" not in arrays:
        raise ValueError(f"{extra}: expected an array 'init_pos', got {sorted(read_arrays(extra))}")
    origin = arrays["init_pos"]
    networks = folder / "checkpoints.pth"
    if not networks.is_file():
        raise FileNotFoundError(
            f"{networks}: expected the networks: for traced modules (*.pt) save "
            "their state dicts under opacity_mlp, cov_mlp, color_mlp first"
        )
    state = mlps_to_state(load_from_local(networks, map_location="cpu"))
    state |= frame_to_state(read_ply_frame(files[0]))
    # All levels take part from here on.
    return {**columns_to_state(columns, origin), **state, "iteration": torch.tensor(10**9)}


def write_folder(state: dict[str, Tensor], folder: Path) -> None:
    """Write a state dict as the original would."""
    columns, origin = state_to_columns(state)
    names = ("point_cloud.ply", "additional_attributes.npz", "checkpoints.pth")
    with atomic_paths(folder / name for name in names) as (cloud, attributes, networks):
        write_ply_vertices(cloud, columns, frame_in_state(state))
        np.savez(attributes, init_pos=origin)
        write_torch(networks, state_to_mlps(state))
