"""Copies between host and device with few waits."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from .base import TensorContainer
from .voxel_grid import VoxelGrid


def to_device(value: Any, device: torch.device | str) -> Any:
    """Everything in a batch on a device.

    Copies to a GPU go through page-locked memory, so that the host goes on at once; copies to
    the CPU are complete when this returns.

    Args:
        value: A tensor, container or data sample, or dicts, lists and tuples of them; all else
            stays as it is.
        device: Target.

    Returns:
        The same kinds; tensors that are there already are not copied.
    """
    device = torch.device(device)

    def move(item: Any) -> Any:
        if isinstance(item, Tensor):
            if device.type != "cuda" or item.device.type != "cpu":
                return item.to(device)
            # Expanded tensors cannot be pinned as they are.
            return item.contiguous().pin_memory().to(device, non_blocking=True)
        if isinstance(item, TensorContainer):
            return item._moved(move)
        if isinstance(item, VoxelGrid):
            return item._map(move)
        if isinstance(item, BaseDataElement):
            moved = item.new()
            moved.set_data({name: move(field) for name, field in item.items()})
            return moved
        if isinstance(item, Mapping):
            return {name: move(field) for name, field in item.items()}
        if isinstance(item, list | tuple):
            fields = [move(field) for field in item]
            return item._make(fields) if hasattr(item, "_make") else type(item)(fields)
        return item.to(device) if hasattr(item, "to") else item

    return move(value)


def to_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of one device and dtype on the CPU, with one wait for the device.

    Those of the CPU are not copied.
    """
    if all(tensor.device.type == "cpu" for tensor in tensors.values()):
        return dict(tensors)
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors.values()]).cpu()
    parts = flat.split([tensor.numel() for tensor in tensors.values()])
    return {name: part.view(tensors[name].shape) for name, part in zip(tensors, parts)}
