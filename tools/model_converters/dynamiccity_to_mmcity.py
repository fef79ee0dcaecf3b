"""Convert DynamicCity checkpoints: ``python dynamiccity_to_mmcity.py SRC DST --config CONFIG``.

The parameter names of the VAE are those of the published files; a DiT's gain the prefix
``denoiser.``. Shapes are checked against the config, and everything missing or extra is listed.
"""

import argparse
import os
from pathlib import Path

_PREFIX = "denoiser."


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Convert DynamicCity checkpoints")
    parser.add_argument("src", help="published checkpoint (or ours, with --reverse)")
    parser.add_argument("dst", help="file to write")
    parser.add_argument("--config", required=True, help="config whose model the weights are for")
    parser.add_argument("--reverse", action="store_true", help="from ours to the published form")
    parser.add_argument(
        "--weights",
        choices=["ema", "model"],
        default="ema",
        help="which weights of a published DiT file to take",
    )
    parser.add_argument("--unsafe-load", action="store_true", help="read full pickles too")
    return parser.parse_args(argv)


def published_weights(checkpoint: dict, which: str) -> dict:
    """State dict of a published file; a VAE's has no EMA weights."""
    if which == "ema" and "ema" in checkpoint:
        weights = checkpoint["ema"]
    elif "model_state_dict" in checkpoint:
        weights = checkpoint["model_state_dict"]
    else:
        raise ValueError(
            "expected a DynamicCity checkpoint with 'model_state_dict' (and 'ema'), "
            f"got keys {sorted(checkpoint)[:8]}"
        )
    return {key.removeprefix("module."): value for key, value in weights.items()}


def compare(weights: dict, expected: dict) -> list[str]:
    """Differences between two state dicts, one line each."""
    lines = [
        f"missing: {key} {tuple(expected[key].shape)}" for key in expected if key not in weights
    ]
    lines += [f"extra: {key} {tuple(weights[key].shape)}" for key in weights if key not in expected]
    lines += [
        f"shape: {key} is {tuple(weights[key].shape)}, the config makes it "
        f"{tuple(expected[key].shape)}"
        for key in expected
        if key in weights and weights[key].shape != expected[key].shape
    ]
    return lines


def main(argv: list[str] | None = None) -> None:
    """Convert one file."""
    args = parse_args(argv)
    if args.unsafe_load:
        os.environ["MMCITY_UNSAFE_LOAD"] = "1"

    import torch

    from mmcity.engine.checkpointing import load_checkpoint_weights, load_from_local
    from mmcity.engine.launch import load_config
    from mmcity.registry import MODELS
    from mmcity.utils.fileio import atomic_path

    model = MODELS.build(load_config(args.config).model)
    is_dit = hasattr(model, "denoiser")
    network = model.denoiser if is_dit else model
    expected = network.state_dict()
    if args.reverse:
        weights = load_checkpoint_weights(args.src)
        if is_dit:
            weights = {k[len(_PREFIX) :]: v for k, v in weights.items() if k.startswith(_PREFIX)}
    else:
        weights = published_weights(load_from_local(args.src, map_location="cpu"), args.weights)
        if is_dit:  # fixed table, absent from some files
            weights.setdefault("pos_embed", expected["pos_embed"])
    problems = compare(weights, expected)
    if problems:
        raise SystemExit(f"{args.src} does not fit {args.config}:\n" + "\n".join(problems))
    if args.reverse:
        converted = {"model_state_dict": weights}
        if is_dit:
            converted["ema"] = weights
    elif is_dit:
        state = {_PREFIX + key: value for key, value in weights.items()}
        own = model.state_dict()
        state.update({key: own[key] for key in ("latent_mean", "latent_std")})
        converted = {"state_dict": state, "meta": {}}
    else:
        converted = {"state_dict": weights, "meta": {}}
    with atomic_path(Path(args.dst)) as temporary:
        torch.save(converted, temporary)
    print(f"{args.dst}: {len(weights)} tensors, none missing, none extra")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
