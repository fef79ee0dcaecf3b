"""Base class of tensor containers: device, dtype, indexing, concatenation."""

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

_Container = TypeVar("_Container", bound="TensorContainer")


def as_tensor(value: Any, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of an array, list or tensor; whole numbers become float32 unless asked."""
    if isinstance(value, list | tuple) and value and all(isinstance(v, Tensor) for v in value):
        value = torch.stack(list(value))
    if not isinstance(value, Tensor):
        value = torch.as_tensor(np.asarray(value))
    if dtype is not None:
        return value.to(dtype)
    return value if value.is_floating_point() else value.to(torch.float32)


class TensorContainer:
    """Rows of several tensors that belong together.

    Subclasses name their tensors in ``_row_fields`` (first dimension = row; a field may be
    None) and what all rows share in ``_shared_fields``; both are keyword arguments of their
    constructor. Those of ``_host_fields`` stay on the CPU: numbers that the host reads, for which
    it would wait.
    """

    _row_fields: ClassVar[tuple[str, ...]] = ()
    _host_fields: ClassVar[tuple[str, ...]] = ()
    _shared_fields: ClassVar[tuple[str, ...]] = ()

    def _rebuilt(self: _Container, rows: dict[str, Tensor | None], **shared) -> _Container:
        """A container of the same type without checking what was checked before."""
        out = object.__new__(type(self))
        out.__dict__.update(self.__dict__)
        out.__dict__.update(rows, **shared)
        return out

    def _map(self: _Container, function) -> _Container:
        values = {name: getattr(self, name) for name in self._row_fields}
        return self._rebuilt({k: None if v is None else function(v) for k, v in values.items()})

    def _moved(self: _Container, move) -> _Container:
        """As :meth:`_map` for a change of device, which fields of the host do not take part in."""
        values = {name: getattr(self, name) for name in self._row_fields}
        stays = {name for name, v in values.items() if v is None or name in self._host_fields}
        return self._rebuilt({k: v if k in stays else move(v) for k, v in values.items()})

    def __len__(self) -> int:
        return len(getattr(self, self._row_fields[0]))

    def __getitem__(self: _Container, index) -> _Container:
        """Rows by number (gives a container of one), slice, mask or index tensor."""
        if isinstance(index, int | np.integer):
            index = int(index)
            if not -len(self) <= index < len(self):
                raise IndexError(
                    f"row: expected an index of a {type(self).__name__} of {len(self)}, got {index}"
                )
            index = slice(index, index + 1 or None)
        elif isinstance(index, np.ndarray | list | tuple):
            index = torch.as_tensor(np.asarray(index))
        if isinstance(index, Tensor):
            if index.dtype == torch.bool and index.shape != (len(self),):
                raise IndexError(f"mask: expected shape ({len(self)},), got {tuple(index.shape)}")
            if index.ndim == 0:
                return self[int(index)]
            rows = index if index.dtype == torch.bool else index.long()
            return self._map(lambda value: value[rows.to(value.device)])
        return self._map(lambda value: value[index])

    def __iter__(self):
        return (self[row] for row in range(len(self)))

    @classmethod
    def cat(cls: type[_Container], parts: Sequence[_Container]) -> _Container:
        """Rows of several containers one after the other.

        Raises:
            ValueError: If there is none, or if they differ in what all rows share.
        """
        parts = list(parts)
        if not parts:
            raise ValueError(f"{cls.__name__}.cat: expected at least one, got none")
        rows: dict[str, Tensor | None] = {}
        for name in cls._shared_fields:
            values = [getattr(part, name) for part in parts]
            if any(value != values[0] for value in values):
                raise ValueError(f"{cls.__name__}.cat: expected one {name}, got {values}")
        for name in cls._row_fields:
            values = [getattr(part, name) for part in parts]
            missing = [value is None for value in values]
            if any(missing) and not all(missing):
                raise ValueError(f"{cls.__name__}.cat: expected {name} in all parts, got some")
            shapes = {tuple(value.shape[1:]) for value in values if value is not None}
            if len(shapes) > 1:
                raise ValueError(
                    f"{cls.__name__}.cat: expected one shape of {name}, got {sorted(shapes)}"
                )
            rows[name] = None if all(missing) else torch.cat(values)
        return parts[0]._rebuilt(rows)

    @property
    def device(self) -> torch.device:
        """Device of the first tensor."""
        return getattr(self, self._row_fields[0]).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the first tensor."""
        return getattr(self, self._row_fields[0]).dtype

    def to(self: _Container, *args, **kwargs) -> _Container:
        """On another device, or with another floating-point type (whole numbers keep theirs)."""
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
        return self._moved(
            lambda value: value.to(
                device=device,
                dtype=dtype if value.is_floating_point() else None,
                non_blocking=non_blocking,
            )
        )

    def cpu(self: _Container) -> _Container:
        """On the CPU."""
        return self.to("cpu")

    def cuda(self: _Container, device: int | None = None) -> _Container:
        """On a CUDA device."""
        return self.to(torch.device("cuda", device if device is not None else 0))

    def detach(self: _Container) -> _Container:
        """Without gradient history."""
        return self._map(lambda value: value.detach())

    def clone(self: _Container) -> _Container:
        """With memory of its own."""
        return self._map(lambda value: value.clone())
