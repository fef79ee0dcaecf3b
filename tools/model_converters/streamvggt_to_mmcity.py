"""Convert published VGGT / StreamVGGT weights: ``streamvggt_to_mmcity.py SRC DST``.

The parameter names are the same on both sides. What the conversion adds is the check of
every name and shape against the model, and the format: a published file is a plain state
dict (or a dict with ``model``), ours a dict with ``state_dict`` and ``meta``.
"""

import argparse
from collections.abc import Mapping

DEFAULT_CONFIG = "configs/streamvggt/streamvggt_1b.py"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("src", help="model.pt, checkpoints.pth or one of our checkpoints")
    parser.add_argument("dst", help="file to write")
    parser.add_argument(
        "--config", default=DEFAULT_CONFIG, help="model that names are checked with"
    )
    parser.add_argument("--reverse", action="store_true", help="write the published format")
    return parser.parse_args(argv)


def find_state_dict(content: object, source: str) -> dict:
    """The state dict inside what a checkpoint file holds."""
    from mmcity.utils import UserError

    if isinstance(content, Mapping):
        for key in ("state_dict", "model"):
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
    import torch

    if not isinstance(content, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise UserError(f"{source}: expected a state dict of tensors")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def differences(state: Mapping, expected: Mapping) -> list[str]:
    """What keeps ``state`` from loading strictly, one line each."""
    lines = [f"missing: {name} {tuple(expected[name].shape)}" for name in expected.keys() - state]
    lines += [f"extra: {name} {tuple(state[name].shape)}" for name in state.keys() - expected]
    lines += [
        f"shape: {name} is {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected.keys() & state
        if state[name].shape != expected[name].shape
    ]
    return sorted(lines)


def main(argv: list[str] | None = None) -> None:
    """Convert."""
    args = parse_args(argv)
    import torch
    from mmengine.registry import DefaultScope

    from mmcity.engine.checkpointing.loader import load_from_local
    from mmcity.engine.launch import load_config
    from mmcity.registry import MODELS
    from mmcity.utils import UserError, atomic_path

    state = find_state_dict(load_from_local(args.src, map_location="cpu"), args.src)
    config = load_config(args.config)
    model_config = dict(config.model)
    for name in ("teacher", "teacher_checkpoint"):
        model_config.pop(name, None)
    with torch.device("meta"), DefaultScope.overwrite_default_scope("mmcity"):
        expected = MODELS.build(model_config).state_dict()
    lines = differences(state, expected)
    if lines:
        raise UserError(
            f"{args.src} does not fit {args.config}, nothing was written:\n" + "\n".join(lines)
        )
    content = dict(state)
    if not args.reverse:
        content = {"state_dict": content, "meta": {"source": "converted", "config": args.config}}
    with atomic_path(args.dst) as path:
        torch.save(content, path)
    parameters = sum(value.numel() for value in state.values())
    print(f"wrote {args.dst}: {len(state)} entries, {parameters:,} numbers")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
