"""Reading and writing tensors and what holds them, telling them apart."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .fileio import atomic_path, damage_told


def write_torch(path: str | os.PathLike, content: Any, durable: bool = False) -> None:
    """Write a file of :func:`torch.save`, whole or not at all.

    Args:
        path: Target.
        content: Tensors in dictionaries and lists.
        durable: See :func:`~mmcity.utils.fileio.atomic_path`. Defaults to False.

    Raises:
        OSError: If it cannot be written; torch's own error would name no file.
    """
    with atomic_path(path, durable) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # What went wrong first is hidden behind torch's attempts to end the file.
            first: BaseException | None = error
            while first is not None and not isinstance(first, OSError):
                first = first.__context__
            raise (error if first is None else first) from None


def read_torch(path: str | os.PathLike, mmap: bool = False) -> Any:
    """Tensors and plain containers of a file of :func:`torch.save`, on the CPU.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If it is damaged, or holds something else; the message names it.
    """
    with damage_told(path, "tensors written by torch.save"):
        return torch.load(path, map_location="cpu", mmap=mmap, weights_only=True)


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Digest of names and values, such as of a model's weights."""
    whole = hashlib.sha256()
    for name, tensor in tensors.items():
        whole.update(name.encode())
        whole.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return whole.hexdigest()[:16]
