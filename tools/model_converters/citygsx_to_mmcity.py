"""Convert the original's point_cloud folder to a checkpoint of CityGSX, or back.

    python tools/model_converters/citygsx_to_mmcity.py OUT/point_cloud/iteration_N scene.pth
    python tools/model_converters/citygsx_to_mmcity.py --reverse scene.pth FOLDER

Sharded folders (``point_cloud_rk*_ws*.ply``) are joined.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from mmcity.models.citygsx.checkpoint_keys import (
    columns_to_state,
    mlps_to_state,
    state_to_columns,
    state_to_mlps,
)
from mmcity.structures import read_ply_vertices, write_ply_vertices
from mmcity.utils.fileio import atomic_path

REQUIRED = ("x", "y", "z", "level", "extra_level", "info", "f_offset_0", "f_anchor_feat_0")


def read_folder(folder: Path) -> dict[str, torch.Tensor]:
    """State dict from a folder of the original."""
    whole = folder / "point_cloud.ply"
    files = [whole] if whole.is_file() else sorted(folder.glob("point_cloud_rk*_ws*.ply"))
    if not files:
        raise FileNotFoundError(f"{folder}: expected point_cloud.ply or point_cloud_rk*.ply")
    shards = [read_ply_vertices(path, REQUIRED) for path in files]
    # Each shard carries the scene's numbers in its own first rows.
    info = shards[0]["info"][:2]
    columns = {n: np.concatenate([shard[n] for shard in shards]) for n in shards[0]}
    columns["info"][:2] = info
    extra = folder / "additional_attributes.npz"
    if not extra.is_file():
        raise FileNotFoundError(f"{extra}: expected the file with init_pos")
    with np.load(extra, allow_pickle=False) as data:
        origin = data["init_pos"]
    networks = folder / "checkpoints.pth"
    if not networks.is_file():
        raise FileNotFoundError(
            f"{networks}: expected the networks. What to do: for traced modules (*.pt) save "
            "their state dicts under opacity_mlp, cov_mlp, color_mlp first"
        )
    checkpoint = torch.load(networks, map_location="cpu", weights_only=True)
    return {**columns_to_state(columns, origin), **mlps_to_state(checkpoint)}


def write_folder(state: dict[str, torch.Tensor], folder: Path) -> None:
    """Write a state dict as the original would."""
    columns, origin = state_to_columns(state)
    folder.mkdir(parents=True, exist_ok=True)
    write_ply_vertices(folder / "point_cloud.ply", columns)
    with atomic_path(folder / "additional_attributes.npz") as path:
        np.savez(path, init_pos=origin)
    with atomic_path(folder / "checkpoints.pth") as path:
        torch.save(state_to_mlps(state), path)


def main() -> None:
    """Read the command line and convert."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("src", type=Path)
    parser.add_argument("dst", type=Path)
    parser.add_argument("--reverse", action="store_true", help="from a checkpoint to a folder")
    args = parser.parse_args()
    if args.reverse:
        checkpoint = torch.load(args.src, map_location="cpu", weights_only=True)
        write_folder(checkpoint.get("state_dict", checkpoint), args.dst)
        print(f"wrote {args.dst}")
        return
    state = read_folder(args.src)
    # All levels take part from here on.
    state["iteration"] = torch.tensor(10**9)
    with atomic_path(args.dst) as path:
        torch.save(dict(state_dict=state, meta=dict(source=str(args.src))), path)
    count, k = state["anchors.offsets"].shape[:2]
    width = state["anchors.features"].shape[1]
    print(f"{args.dst}: {count} anchors; the config needs feat_dim={width}, n_offsets={k}")
    print("Camera poses are no part of the original's files: views.* stay empty (load non-strict).")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
