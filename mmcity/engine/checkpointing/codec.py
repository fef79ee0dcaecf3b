"""Turning a checkpoint into objects that ``torch.load(weights_only=True)`` reads back."""

import collections
import pathlib
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

#: Marks a dict that stands for another object; its value names the kind.
TAG = "__mmcity__"

_PLAIN_TYPES = (type(None), bool, int, float, complex, str)
_TORCH_TYPES = (torch.device, torch.dtype, torch.Size)


class CheckpointContentError(TypeError):
    """A checkpoint holds an object that cannot be read back with ``weights_only=True``."""


def encode_checkpoint(value: Any, where: str = "checkpoint") -> Any:
    """Replace everything that is not a tensor, number, string or plain container.

    History buffers, numpy arrays and scalars, paths, sets and deques become tagged dicts
    that :func:`decode_checkpoint` turns back. Config dicts and other mappings become
    plain dicts. The input is not changed.

    Args:
        value: A checkpoint or a part of one.
        where: Name of that part, for the error message. Defaults to "checkpoint".

    Raises:
        CheckpointContentError: If a part has a type that cannot be stored.
    """
    if isinstance(value, torch.Tensor):
        # Parameters and tensor subclasses are stored as what they hold.
        return value.detach().as_subclass(torch.Tensor)
    if isinstance(value, np.ndarray):
        if value.dtype == object or value.dtype.kind in "USV":
            return {TAG: "ndarray_list", "data": encode_checkpoint(value.tolist(), where)}
        return {TAG: "ndarray", "data": torch.from_numpy(np.array(value, order="C"))}
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in _PLAIN_TYPES or isinstance(value, _TORCH_TYPES):
        return value
    if isinstance(value, HistoryBuffer):
        history, counts = value.data
        return {
            TAG: "history_buffer",
            "history": torch.as_tensor(np.asarray(history, dtype=np.float64)),
            "counts": torch.as_tensor(np.asarray(counts, dtype=np.float64)),
            "max_length": int(value.max_length),
        }
    if isinstance(value, collections.abc.Mapping):
        kind = collections.OrderedDict if isinstance(value, collections.OrderedDict) else dict
        encoded = kind(
            (_encode_key(key, where), encode_checkpoint(item, f"{where}.{key}"))
            for key, item in value.items()
        )
        if kind is collections.OrderedDict and hasattr(value, "_metadata"):
            encoded._metadata = value._metadata  # module versions of a state dict
        return encoded
    if isinstance(value, (list, tuple)):
        items = [encode_checkpoint(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, (set, frozenset, collections.deque)):
        items = [encode_checkpoint(item, where) for item in value]
        return {TAG: type(value).__name__, "data": items}
    if isinstance(value, (bytes, bytearray)):
        return {TAG: "bytes", "data": torch.tensor(list(value), dtype=torch.uint8)}
    if isinstance(value, pathlib.PurePath):
        return {TAG: "path", "data": str(value)}
    if isinstance(value, (bool, int, float, str)):  # enums and other subclasses
        return next(base(value) for base in (bool, int, float, str) if isinstance(value, base))
    raise CheckpointContentError(
        f"{where}: expected tensors, numbers, strings, lists and dicts, which can be read back "
        f"safely (weights_only=True), got a {type(value).__module__}.{type(value).__qualname__}: "
        "keep such in a state_dict, or rebuild the object in load_state_dict"
    )


def _encode_key(key: Any, where: str) -> Any:
    if isinstance(key, np.generic):
        return key.item()
    if isinstance(key, (str, int, float, bool, tuple, type(None))):
        return key
    raise CheckpointContentError(
        f"{where} has a key of type {type(key).__qualname__}, expected a string or a number"
    )


def decode_checkpoint(value: Any) -> Any:
    """Rebuild the objects that :func:`encode_checkpoint` replaced; others pass unchanged."""
    if isinstance(value, dict):
        if TAG in value:
            return _decode_tagged(value)
        for key, item in value.items():
            value[key] = decode_checkpoint(item)
        return value
    if isinstance(value, list):
        return [decode_checkpoint(item) for item in value]
    if type(value) is tuple:
        return tuple(decode_checkpoint(item) for item in value)
    return value


def _decode_tagged(value: dict) -> Any:
    kind = value[TAG]
    if kind == "history_buffer":
        return HistoryBuffer(
            value["history"].cpu().numpy(), value["counts"].cpu().numpy(), value["max_length"]
        )
    if kind == "ndarray":
        return value["data"].cpu().numpy()
    if kind == "ndarray_list":
        return np.array(decode_checkpoint(value["data"]))
    if kind == "bytes":
        data = value["data"]
        if data.numel() > data.untyped_storage().nbytes():  # one byte stands for many
            raise CheckpointContentError(
                f"checkpoint: expected bytes that the file holds, got {data.numel()} of fewer"
            )
        return data.cpu().to(torch.uint8).numpy().tobytes()
    if kind == "path":
        return pathlib.Path(value["data"])
    containers = {"set": set, "frozenset": frozenset, "deque": collections.deque}
    if kind in containers:
        return containers[kind](decode_checkpoint(value["data"]))
    raise CheckpointContentError(
        f"checkpoint: expected a known kind, got '{kind}': it may be written by a newer mmcity"
    )
