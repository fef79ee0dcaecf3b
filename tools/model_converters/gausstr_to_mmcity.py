"""Convert published GaussTR checkpoints: ``gausstr_to_mmcity.py SRC DST --config CONFIG``.

Names are the published ones; the voxelizer's buffers are dropped, since they follow from the
config. ``--reverse`` writes them again.
"""

import argparse
import os
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Convert GaussTR checkpoints")
    parser.add_argument("src", help="published checkpoint (or ours, with --reverse)")
    parser.add_argument("dst", help="file to write")
    parser.add_argument("--config", required=True, help="config whose model the weights are for")
    parser.add_argument("--text-protos", help="tensor (C, P) where the source holds none")
    parser.add_argument("--reverse", action="store_true", help="from ours to the published form")
    parser.add_argument("--unsafe-load", action="store_true", help="read full pickles too")
    return parser.parse_args(argv)


def voxelizer_buffers(voxelizer) -> dict:
    """Buffers of the published voxelizer: range and voxel centres."""
    import torch

    low = torch.tensor(voxelizer.vol_range[:3])
    axes = [
        low[i] + (torch.arange(n) + 0.5) * voxelizer.voxel_size
        for i, n in enumerate(voxelizer.grid_shape)
    ]
    return {
        "vol_range": torch.tensor(voxelizer.vol_range),
        "grid_coords": torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1),
    }


def main(argv: list[str] | None = None) -> None:
    """Convert one file."""
    args = parse_args(argv)
    if args.unsafe_load:
        os.environ["MMCITY_UNSAFE_LOAD"] = "1"

    import torch

    from mmcity.engine.checkpointing import load_checkpoint_weights
    from mmcity.engine.launch import load_config
    from mmcity.registry import MODELS
    from mmcity.utils import register_all_modules
    from mmcity.utils.fileio import atomic_path

    register_all_modules()
    model = MODELS.build(load_config(args.config).model)
    expected = model.state_dict()
    own = {key for key in expected if key.startswith("feature_basis.")}
    weights = load_checkpoint_weights(args.src)
    if args.reverse:
        weights = {key: value for key, value in weights.items() if key not in own}
        for i, head in enumerate(model.gauss_heads):
            for name, buffer in voxelizer_buffers(head.voxelizer).items():
                weights[f"gauss_heads.{i}.voxelizer.{name}"] = buffer
    else:
        weights = {k: v for k, v in weights.items() if ".voxelizer." not in k}
        if args.text_protos:
            protos = torch.load(args.text_protos, map_location="cpu", weights_only=True)
            protos = protos["embeds"] if isinstance(protos, dict) else protos
            for i in range(len(model.gauss_heads)):
                weights[f"gauss_heads.{i}.text_proto_embeds"] = protos.float()
        problems = [f"missing: {k}" for k in expected if k not in weights and k not in own]
        problems += [f"extra: {k}" for k in weights if k not in expected]
        problems += [
            f"shape: {k} is {tuple(v.shape)}, the config makes it {tuple(expected[k].shape)}"
            for k, v in weights.items()
            if k in expected and v.shape != expected[k].shape
        ]
        if problems:
            raise SystemExit(f"{args.src} does not fit {args.config}:\n" + "\n".join(problems))
        weights.update({key: expected[key] for key in own})
    with atomic_path(Path(args.dst)) as temporary:
        torch.save({"state_dict": weights, "meta": {}}, temporary)
    print(f"{args.dst}: {len(weights)} tensors")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
