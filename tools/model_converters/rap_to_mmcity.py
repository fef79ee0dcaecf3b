"""Convert published RAPNet checkpoints: ``rap_to_mmcity.py SRC DST [--reverse]``.

``SRC`` is a state dict (``ckpt-*.pt``) or a ``full_checkpoint.pth``. Tensors that have no
influence on any output (late backbone blocks, classifier) are kept in the converted file under
``unused``, so that ``--reverse`` gives them back.
"""

import argparse
import os
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Convert RAPNet checkpoints")
    parser.add_argument("src", help="published checkpoint (or ours, with --reverse)")
    parser.add_argument("dst", help="file to write")
    parser.add_argument("--config", default="configs/rap/rap_colmap.py", help="with the network")
    parser.add_argument("--reverse", action="store_true", help="from ours to the published form")
    parser.add_argument("--unsafe-load", action="store_true", help="read full pickles too")
    return parser.parse_args(argv)


def problems_of(weights: dict, expected: dict) -> list[str]:
    """What is missing, extra or of another shape."""
    out = [f"missing: {key}" for key in expected if key not in weights]
    out += [f"extra: {key}" for key in weights if key not in expected]
    out += [
        f"shape: {key} is {tuple(value.shape)}, the config makes it {tuple(expected[key].shape)}"
        for key, value in weights.items()
        if key in expected and value.shape != expected[key].shape
    ]
    return out


def main(argv: list[str] | None = None) -> None:
    """Convert one file."""
    args = parse_args(argv)
    if args.unsafe_load:
        os.environ["MMCITY_UNSAFE_LOAD"] = "1"

    import torch

    from mmcity.engine.checkpointing import load_from_local
    from mmcity.engine.launch import load_config
    from mmcity.models.rap.checkpoint_keys import from_published, to_published
    from mmcity.registry import MODELS
    from mmcity.utils import register_all_modules
    from mmcity.utils.fileio import atomic_path

    register_all_modules()
    model = MODELS.build(load_config(args.config).model)
    expected = model.network.state_dict()
    source = load_from_local(args.src, map_location="cpu")
    if args.reverse:
        weights = source.get("state_dict", source)
        weights = {
            k.removeprefix("network."): v for k, v in weights.items() if k.startswith("network.")
        }
        problems = problems_of(weights, expected)
        names = to_published(expected) if not problems else {}
        result = {names[key]: weights[key] for key in names} | dict(source.get("unused", {}))
        count = len(result)
    else:
        weights = source.get("model_state_dict", source)
        renamed, unused = from_published(weights)
        problems = problems_of(renamed, expected)
        result = {
            # What published weights lack stays as it is built: the field of view and size of
            # training are not known. (A discriminator takes part in training only.)
            "state_dict": {
                **{k: v for k, v in model.state_dict().items() if "discriminator." not in k},
                **{f"network.{key}": value for key, value in renamed.items()},
            },
            "unused": {key: weights[key] for key in unused},
            "meta": {},
        }
        count = len(renamed)
    if problems:
        raise SystemExit(f"{args.src} does not fit {args.config}:\n" + "\n".join(problems))
    with atomic_path(Path(args.dst)) as temporary:
        torch.save(result, temporary)
    print(f"{args.dst}: {count} tensors")
    if not args.reverse:
        print(f"kept aside, without influence on any output: {len(result['unused'])} tensors")
    elif not source.get("unused"):
        print("the source holds no unused tensors: published code loads it with strict=False")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
