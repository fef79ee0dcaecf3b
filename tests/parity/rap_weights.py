"""Weights and inputs that are generated from names, as the README of the vectors says."""

import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmcity.models.rap.checkpoint_keys import from_published


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as data:
        return {key: data[key] for key in data.files}


def companion(path: Path, ending: str) -> Path:
    """File beside a file of arrays that holds its weights, their names or its settings."""
    return path.with_name(path.stem.removesuffix("_forward") + ending)


def base_seed(folder: Path) -> int:
    return json.loads((folder / "meta.json").read_text())["base_seed"]


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
