"""Weights and inputs that are generated from names, as the README of the vectors says."""

import json
import math
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmcity.models.rap.checkpoint_keys import from_published
from tests.conftest import REPO
from tests.parity._golden import like_recorded


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as data:
        return {key: data[key] for key in data.files}


def companion(path: Path, ending: str) -> Path:
    """File beside a file of arrays that holds its weights, their names or its settings."""
    return path.with_name(path.stem.removesuffix("_forward") + ending)


def base_seed(folder: Path) -> int:
    return json.loads((folder / "meta.json").read_text())["base_seed"]


def readme_row(path: Path) -> str:
    """What the README of a set tells about a file: its own, else that of the carried vectors."""
    readme = path.with_name("README.md")
    if not readme.is_file():
        readme = REPO / "tests" / "data" / "golden" / "rap" / "README.md"
    rows = [row for row in readme.read_text(encoding="utf-8").splitlines() if path.name in row]
    return " ".join(rows)


def input_tag(path: Path) -> str:
    """Word that the input of a file is generated from: of the settings, else of the README."""
    meta = json.loads(path.with_name("meta.json").read_text())
    key = f"{path.stem.removesuffix('_forward')}_input_tag"
    return meta[key] if key in meta else re.search(r"tag `(\w+)`", readme_row(path))[1]


def load_generated(
    path: Path, network: torch.nn.Module, keys: dict, run: Callable[[], Tensor], want: np.ndarray
) -> None:
    """Load the generated weights with which a network gives what is recorded.

    Files do not tell the seed of their weights: it is one of those that the README names, or
    the base seed, or one of the next ones.

    Args:
        path: File of the arrays.
        network: Takes the weights.
        keys: Shapes by name, see :func:`generated_weights`.
        run: Gives the network's output of which every n-th value is recorded.
        want: The recorded values.
    """
    base = base_seed(path.parent)
    named = [int(seed) for seed in re.findall(r"seed (\d+)", readme_row(path))]
    errors = {}
    for seed in dict.fromkeys([*named, *range(base, base + 10)]):
        network.load_state_dict(generated_weights(keys, seed))
        with torch.no_grad():
            got = like_recorded(run(), want)
        errors[seed] = float((got - torch.as_tensor(want)).abs().max())
        if errors[seed] < 1e-3:
            return
    raise AssertionError(f"{path.name}: no seed gives the recorded values: {errors}")


def generated_tensor(key: str, shape: list[int], seed: int) -> Tensor:
    rng = np.random.RandomState((zlib.crc32(key.encode()) + seed) & 0xFFFFFFFF)
    last = key.split(".")[-1]
    if last == "num_batches_tracked":
        value = np.zeros(shape, np.int64)
    elif last == "running_mean":
        value = 0.1 * rng.standard_normal(shape)
    elif last == "running_var":
        value = 0.5 + rng.random_sample(shape)
    elif len(shape) >= 2:
        value = rng.standard_normal(shape) * math.sqrt(2 / np.prod(shape[1:]))
    elif last == "weight":
        value = 1 + 0.1 * rng.standard_normal(shape)
    else:
        value = 0.05 * rng.standard_normal(shape)
    value = np.asarray(value)
    return torch.from_numpy(value if value.dtype == np.int64 else value.astype(np.float32))


def generated_weights(keys: dict, seed: int) -> dict[str, Tensor]:
    """A state dict of a table key -> shape, or key -> [shape, dtype]."""
    shapes = {k: v[0] if v and isinstance(v[0], list) else v for k, v in keys.items()}
    return {key: generated_tensor(key, shape, seed) for key, shape in shapes.items()}


def generated_input(tag: str, shape: Sequence[int], seed: int) -> Tensor:
    rng = np.random.RandomState((zlib.crc32(tag.encode()) + seed) & 0xFFFFFFFF)
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))


def load_published(network: torch.nn.Module, weights: dict[str, Tensor]) -> list[str]:
    """Load published weights strictly; returns the names that have no influence."""
    renamed, unused = from_published(weights)
    network.load_state_dict(renamed)
    return unused


def network_options(config: dict, width: float = 1.0) -> dict:
    names = ("hidden_dim", "num_heads", "feedforward_dim", "num_encoder_layers", "activation")
    options = {name: config[name] for name in names}
    backbone = dict(width=width, drop_connect=0.0)
    return dict(options, dropout=config["dropout"], backbone=backbone)
