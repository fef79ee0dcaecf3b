"""Writing tensors and what holds them, telling them apart."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .fileio import atomic_path


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


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Digest of names and values, such as of a model's weights."""
    whole = hashlib.sha256()
    for name, tensor in tensors.items():
        whole.update(name.encode())
        whole.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return whole.hexdigest()[:16]
