"""Checks that a checkpoint belongs to a model before anything is copied."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .loader import CheckpointError

_SHOWN_NAMES = 6


def check_is_checkpoint(checkpoint: Any, source: str) -> Mapping:
    """Return the state dict of a checkpoint.

    Args:
        checkpoint: What was read: a dict with ``state_dict``, or a state dict itself.
        source: Name of the file, for the message.

    Raises:
        CheckpointError: If there are no named tensors in it.
    """
    state_dict = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else {}
    is_state_dict = isinstance(state_dict, Mapping) and any(
        isinstance(value, torch.Tensor) for value in state_dict.values()
    )
    if not is_state_dict:
        got = (
            f"a dict with keys {sorted(map(str, checkpoint))[:_SHOWN_NAMES]}"
            if isinstance(checkpoint, Mapping)
            else f"a {type(checkpoint).__name__}"
        )
        raise CheckpointError(
            f"{source} is not a checkpoint of a model: expected a dict with a 'state_dict' of "
            f"named tensors, got {got}"
        )
    return state_dict


def check_is_resumable(checkpoint: Mapping, source: str) -> None:
    """Check that a checkpoint holds more than weights.

    Raises:
        CheckpointError: If the optimiser, the counters or the message hub are missing.
    """
    missing = [key for key in ("meta", "message_hub", "optimizer") if key not in checkpoint]
    if missing:
        raise CheckpointError(
            f"{source}: expected a checkpoint to resume from, got no {', '.join(missing)}, only "
            "weights: start a new run from these weights with --cfg-options load_from=..."
        )


def compare_entries(given: Mapping, expected: Mapping) -> tuple[list[str], list[str], list[str]]:
    """Names that a state dict lacks, that it has too many, and whose tensors differ in shape.

    Args:
        given: The state dict.
        expected: What it should be.
    """
    missing = [key for key in expected if key not in given]
    unexpected = [key for key in given if key not in expected]
    reshaped = [
        key
        for key, value in expected.items()
        if isinstance(value, torch.Tensor)
        and isinstance(given.get(key), torch.Tensor)
        and given[key].shape != value.shape
    ]
    return missing, unexpected, reshaped


def check_matches_model(model: nn.Module, state_dict: Mapping, source: str) -> None:
    """Compare names and shapes of a state dict with those of a model.

    Parameters of a module that resizes itself while loading (one that overrides
    ``_load_from_state_dict``, like a scene that grows) may have any shape. Entries of a module
    with ``may_miss`` may be absent, as those of a scene's place in the world.

    Args:
        model: The model, not wrapped.
        state_dict: Named tensors; a leading ``module.`` is ignored.
        source: Name of the file, for the message.

    Raises:
        CheckpointError: Naming missing, unexpected and differently shaped entries.
    """
    given = {key.removeprefix("module."): value for key, value in state_dict.items()}
    own = model.state_dict(keep_vars=True)
    missing, unexpected, reshaped = compare_entries(given, own)
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    free = tuple(f"{n}." for n, part in model.named_modules() if getattr(part, "may_miss", False))
    missing, unexpected = (
        [key for key in keys if not key.startswith(free)] for keys in (missing, unexpected)
    )
    resizing = _resizing_owners(model)
    reshaped = [
        f"{key} (checkpoint {tuple(given[key].shape)}, model {tuple(own[key].shape)})"
        for key in reshaped
        if key.rpartition(".")[0] not in resizing
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:_SHOWN_NAMES])}{', ...' * (len(names) > 6)}"
        for what, names in (
            ("missing from the checkpoint", missing),
            ("unknown to the model", unexpected),
            ("of another size", reshaped),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{source}: expected to fit the model {type(model).__name__}, got "
            f"{'; '.join(problems)}: use the config the checkpoint "
            "was trained with (it is stored in its meta['cfg'])"
        )


def _resizing_owners(model: nn.Module) -> set[str]:
    """Names of the modules whose own entries may change size while loading."""
    owners = set()
    for name, module in model.named_modules():
        if _resizes(module):
            owners.add(name)
            owners.update(
                f"{name}.{child_name}".lstrip(".")
                for child_name, child in module.named_children()
                if isinstance(child, (nn.ParameterDict, nn.ParameterList))
            )
    return owners


def _resizes(module: nn.Module) -> bool:
    method = type(module)._load_from_state_dict
    overridden = method is not nn.Module._load_from_state_dict
    own_override = overridden and not method.__module__.startswith("torch.")
    return own_override or bool(module._load_state_dict_pre_hooks)
